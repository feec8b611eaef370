// SPDX-License-Identifier: GPL-2.0
/*
 * One end of a line: what is written goes to the other end as credit allows, what comes goes to the tty
 * layer as fast as that takes it. Nothing is lost on a line that is open at both ends, and nobody waits
 * for a line that is not: a terminal (the end at the lower node id) keeps the last that it was sent, the
 * other end throws away what nobody there wanted.
 */
#include <linux/jiffies.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/sysrq.h>
#include <linux/tty.h>
#include <linux/tty_flip.h>

#include "trace.h"
#include "tty.h"

#define PCN_TTY_CHUNK_BYTES	8192	/* of one message */
#define PCN_TTY_RETRY_MS	20
#define PCN_TTY_PATIENCE	100	/* retries until a hangup throws away what nobody reads */
#define PCN_TTY_SYSRQ_S		5

/* Under tx_lock. Returns 0 or what pcn_service_send() did. */
static int pcn_tty_line_send_message(struct pcn_tty_line *line, u32 kind)
{
	struct {
		struct pcn_tty_head head;
		struct pcn_tty_size size;
	} message = { .head = { .kind = kind, .line = line->nr } };
	u32 len = sizeof(message.head);
	int ret;

	switch (kind) {
	case PCN_TTY_CREDIT:
		message.head.value = READ_ONCE(line->rx_taken) + PCN_TTY_WINDOW;
		break;
	case PCN_TTY_MODEM:
		message.head.value = line->dtr;
		break;
	case PCN_TTY_SIZE:
		message.size.rows = line->size.ws_row;
		message.size.columns = line->size.ws_col;
		message.size.width = line->size.ws_xpixel;
		message.size.height = line->size.ws_ypixel;
		len = sizeof(message);
		break;
	}
	/* Before it is sent: what it allows may come at once. It only ever grows. */
	if (kind == PCN_TTY_CREDIT)
		WRITE_ONCE(line->rx_told, message.head.value);
	ret = pcn_service_send(&line->peer->node->service, line->peer->id, &message, len);
	return ret;
}

/* Under tx_lock. Returns how many bytes went. */
static int pcn_tty_line_send_data(struct pcn_tty_line *line, u32 len)
{
	struct pcn_service *service = &line->peer->node->service;
	struct {
		struct pcn_tty_head head;
		u8 data[PCN_SHM_INLINE_BYTES - sizeof(struct pcn_tty_head)];
	} message = { .head = { .kind = PCN_TTY_DATA, .line = line->nr } };
	struct pcn_out out = { .data = &message, .len = sizeof(message.head) };
	struct pcn_body body;
	int ret;

	if (len <= sizeof(message.data)) {
		out.len += pcn_tty_ring_peek(&line->tx, message.data, len);
	} else {
		ret = pcn_service_reserve(service, line->peer->id, 0, len, &body);
		if (ret)
			return ret;
		pcn_tty_ring_peek(&line->tx, body.data, len);
		out.body = &body;
	}
	ret = pcn_service_send_batch(service, line->peer->id, 0, &out, 1);
	if (ret < 0) {
		if (out.body)
			pcn_service_release(service, &body);
		return ret;
	}
	line->tx.out += len;
	line->tx_sent += len;
	line->nr_tx += len;
	if (trace_popcorn_tty_transmit_enabled())
		trace_popcorn_tty_transmit(pcn_service_node(service), line->peer->id, line->nr, len,
					   pcn_tty_ring_len(&line->tx), rdtsc());
	return len;
}

/* Under tx_lock. */
static void pcn_tty_line_pump(struct pcn_tty_line *line)
{
	u32 kind, len;

	if (!READ_ONCE(line->peer->up))
		return;
	while (line->due) {
		kind = __ffs(line->due);
		/* Taken back first: who sets it again while this is sent wants it sent again. */
		clear_bit(kind, &line->due);
		if (pcn_tty_line_send_message(line, kind)) {
			set_bit(kind, &line->due);
			return; /* there will be room, or nobody to send to */
		}
	}
	for (;;) {
		if (pcn_tty_console_is_on(line))
			pcn_tty_console_move(&line->tx);
		len = min3(line->tx_limit - line->tx_sent, pcn_tty_ring_len(&line->tx),
			   (u32)PCN_TTY_CHUNK_BYTES);
		if (!len || line->stopped || pcn_tty_line_send_data(line, len) < 0)
			break;
	}
}

/**
 * pcn_tty_line_send() - send what is due, as far as there is credit and room; from any context but NMI
 * @line: the line
 */
void pcn_tty_line_send(struct pcn_tty_line *line)
{
	unsigned long flags;
	bool wake;

	spin_lock_irqsave(&line->tx_lock, flags);
	pcn_tty_line_pump(line);
	/* Also when nothing went: who wrote an echo may have sent all before, and woke nobody. */
	wake = line->tx.size && pcn_tty_ring_len(&line->tx) <= line->tx.size / 2;
	spin_unlock_irqrestore(&line->tx_lock, flags);
	/* Not under the lock: a line discipline may write from here. */
	if (wake)
		tty_port_tty_wakeup(&line->port);
}

/**
 * pcn_tty_line_say() - send a message that is all head
 * @line: the line
 * @kind: which
 */
void pcn_tty_line_say(struct pcn_tty_line *line, enum pcn_tty_kind kind)
{
	set_bit(kind, &line->due);
	pcn_tty_line_send(line);
}

/**
 * pcn_tty_line_write() - take bytes to send
 * @line: the line
 * @data: bytes
 * @len: how many
 *
 * Return: how many there was room for.
 */
u32 pcn_tty_line_write(struct pcn_tty_line *line, const void *data, u32 len)
{
	unsigned long flags;
	u32 done;

	spin_lock_irqsave(&line->tx_lock, flags);
	done = pcn_tty_ring_put(&line->tx, data, len);
	pcn_tty_line_pump(line);
	/* The pump may have made room for the rest. */
	if (done < len) {
		u32 more = pcn_tty_ring_put(&line->tx, data + done, len - done);

		if (more)
			pcn_tty_line_pump(line);
		done += more;
	}
	spin_unlock_irqrestore(&line->tx_lock, flags);
	return done;
}

/**
 * pcn_tty_line_discard() - forget what was written and not sent
 * @line: the line
 */
void pcn_tty_line_discard(struct pcn_tty_line *line)
{
	unsigned long flags;

	spin_lock_irqsave(&line->tx_lock, flags);
	line->tx.out = line->tx.in;
	spin_unlock_irqrestore(&line->tx_lock, flags);
	wake_up_all(&line->drain);
	tty_port_tty_wakeup(&line->port);
}

/**
 * pcn_tty_line_stop() - Ctrl-S and Ctrl-Q
 * @line: the line
 * @stop: send no data
 */
void pcn_tty_line_stop(struct pcn_tty_line *line, bool stop)
{
	WRITE_ONCE(line->stopped, stop);
	if (!stop)
		pcn_tty_line_send(line);
}

/**
 * pcn_tty_line_raise() - DTR, which is the other end's carrier
 * @line: the line
 * @on: raise it
 */
void pcn_tty_line_raise(struct pcn_tty_line *line, bool on)
{
	WRITE_ONCE(line->dtr, on);
	pcn_tty_line_say(line, PCN_TTY_MODEM);
}

static bool pcn_tty_line_is_drained(struct pcn_tty_line *line)
{
	unsigned long flags;
	bool drained;

	spin_lock_irqsave(&line->tx_lock, flags);
	drained = !READ_ONCE(line->peer->up) ||
		  (!pcn_tty_ring_len(&line->tx) && line->tx_taken == line->tx_sent);
	spin_unlock_irqrestore(&line->tx_lock, flags);
	return drained;
}

/**
 * pcn_tty_line_drain() - wait until the other end has taken everything
 * @line: the line
 * @timeout: jiffies
 *
 * Return: 0 after @timeout, -ERESTARTSYS on a signal, else what is left of it.
 */
long pcn_tty_line_drain(struct pcn_tty_line *line, long timeout)
{
	if (!pcn_tty_line_is_drained(line))
		pcn_tty_line_say(line, PCN_TTY_SYNC);
	return wait_event_interruptible_timeout(line->drain, pcn_tty_line_is_drained(line), timeout);
}

/* Under rx_lock. Returns true if the other side is to be told that more was taken. */
static bool pcn_tty_line_take(struct pcn_tty_line *line, u32 len)
{
	u32 untaken = READ_ONCE(line->rx_told) - PCN_TTY_WINDOW;

	WRITE_ONCE(line->rx_taken, line->rx_taken + len);
	/* There is no place yet for what it would allow: pcn_tty_line_prepare() tells. */
	if (!line->rx.size)
		return false;
	if (line->sync && line->rx_kept == pcn_tty_ring_len(&line->rx)) {
		line->sync = false;
		return true;
	}
	return line->rx_taken - untaken >= PCN_TTY_WINDOW / 4;
}

/* Under rx_lock: throws away what is more than a line that nobody reads keeps. */
static bool pcn_tty_line_keep(struct pcn_tty_line *line)
{
	u32 max = pcn_tty_line_is_terminal(line) && line->rx.size ? line->rx.size - PCN_TTY_WINDOW : 0;
	u32 len = pcn_tty_ring_len(&line->rx), untaken = len - line->rx_kept;

	if (len > max)
		line->rx.out += len - max;
	line->rx_kept = min(len, max);
	line->breaks = false;
	return pcn_tty_line_take(line, untaken);
}

/* Under rx_lock. Returns as pcn_tty_line_take(). */
static bool pcn_tty_line_hand_on(struct pcn_tty_line *line)
{
	struct tty_port *port = &line->port;
	u32 len, kept, taken = 0;
	bool any = false, tell;
	const u8 *data;
	int done;

	while (line->open && !line->throttled) {
		if (line->breaks && !line->break_after) {
			if (!tty_insert_flip_char(port, 0, TTY_BREAK))
				break;
			line->breaks = false;
			any = true;
		}
		data = pcn_tty_ring_front(&line->rx, &len);
		if (line->breaks)
			len = min(len, line->break_after);
		if (!len)
			break;
		done = tty_insert_flip_string(port, data, len);
		if (done <= 0)
			break;
		any = true;
		line->rx.out += done;
		line->nr_rx += done;
		if (trace_popcorn_tty_receive_enabled())
			trace_popcorn_tty_receive(line->peer->id, pcn_service_node(&line->peer->node->service),
						  line->nr, done, pcn_tty_ring_len(&line->rx), rdtsc());
		if (line->breaks)
			line->break_after -= done;
		kept = min_t(u32, done, line->rx_kept);
		line->rx_kept -= kept;
		taken += done - kept;
	}
	if (any)
		tty_flip_buffer_push(port);
	tell = pcn_tty_line_take(line, taken);
	/* The tty layer's buffer is full, and says when it is not, but for when it is flushed. */
	if (line->open && !line->throttled && pcn_tty_ring_len(&line->rx))
		schedule_delayed_work(&line->work, msecs_to_jiffies(PCN_TTY_RETRY_MS));
	return tell;
}

/**
 * pcn_tty_line_feed() - hand on what came, as far as the tty layer takes it
 * @line: the line
 */
void pcn_tty_line_feed(struct pcn_tty_line *line)
{
	unsigned long flags;
	bool tell;

	spin_lock_irqsave(&line->rx_lock, flags);
	tell = pcn_tty_line_hand_on(line);
	spin_unlock_irqrestore(&line->rx_lock, flags);
	if (tell)
		pcn_tty_line_say(line, PCN_TTY_CREDIT);
}

/**
 * pcn_tty_line_throttle() - the line discipline is full
 * @line: the line
 * @on: or has room again
 */
void pcn_tty_line_throttle(struct pcn_tty_line *line, bool on)
{
	WRITE_ONCE(line->throttled, on);
	if (!on)
		pcn_tty_line_feed(line);
}

/**
 * pcn_tty_line_open() - somebody reads from here on
 * @line: the line, prepared
 */
void pcn_tty_line_open(struct pcn_tty_line *line)
{
	unsigned long flags;

	spin_lock_irqsave(&line->rx_lock, flags);
	line->throttled = false;
	line->open = true;
	/* It was meant for who had it open before. */
	if (line->hangup == PCN_TTY_HANGUP_CARRIER)
		line->hangup = PCN_TTY_HANGUP_NONE;
	spin_unlock_irqrestore(&line->rx_lock, flags);
	WRITE_ONCE(line->stopped, false);
	pcn_tty_line_feed(line);
}

/**
 * pcn_tty_line_close() - nobody reads any more
 * @line: the line
 */
void pcn_tty_line_close(struct pcn_tty_line *line)
{
	unsigned long flags;
	bool tell;

	spin_lock_irqsave(&line->rx_lock, flags);
	line->open = false;
	tell = pcn_tty_line_keep(line);
	spin_unlock_irqrestore(&line->rx_lock, flags);
	WRITE_ONCE(line->stopped, false);
	if (tell)
		pcn_tty_line_say(line, PCN_TTY_CREDIT);
}

static bool pcn_tty_line_receive_data(struct pcn_tty_line *line, const u8 *data, u32 len, const u8 *body,
				      u32 body_len)
{
	u32 total = len + body_len;

	/* Also what comes before there is a ring: nobody allowed it. */
	if (total > READ_ONCE(line->rx_told) - line->rx_received || total > pcn_tty_ring_room(&line->rx)) {
		line->nr_bad++;
		return false;
	}
	line->rx_received += total;
	/* Whoever sends a break on the console's line means the kernel itself with the next byte. */
	if (line->sysrq_until && len) {
		bool now = time_before(jiffies, line->sysrq_until);

		line->sysrq_until = 0;
		if (now) {
			handle_sysrq(data[0]);
			WRITE_ONCE(line->rx_taken, line->rx_taken + 1);
			data++;
			len--;
		}
	}
	pcn_tty_ring_put(&line->rx, data, len);
	if (body_len)
		pcn_tty_ring_put(&line->rx, body, body_len);
	return line->open ? pcn_tty_line_hand_on(line) : pcn_tty_line_keep(line);
}

static bool pcn_tty_line_receive_break(struct pcn_tty_line *line)
{
	line->nr_breaks++;
	if (pcn_tty_console_is_on(line)) {
		if (line->sysrq_until) { /* twice: meant for who has the line open */
			line->sysrq_until = 0;
		} else {
			line->sysrq_until = jiffies + PCN_TTY_SYSRQ_S * HZ;
			return false;
		}
	}
	if (!line->open)
		return false;
	line->breaks = true;
	line->break_after = pcn_tty_ring_len(&line->rx);
	return pcn_tty_line_hand_on(line);
}

/* Under rx_lock. The tty is hung up once what came is read, or nobody reads it for a while. */
static void pcn_tty_line_hang_up_soon(struct pcn_tty_line *line, enum pcn_tty_hangup why)
{
	line->hangup = max_t(u8, line->hangup, why);
	line->patience = PCN_TTY_PATIENCE;
	schedule_delayed_work(&line->work, msecs_to_jiffies(PCN_TTY_RETRY_MS));
}

/* Who has it open and not clocal is hung up when the carrier goes. */
static bool pcn_tty_line_needs_carrier(struct pcn_tty_line *line)
{
	struct tty_struct *tty = tty_port_tty_get(&line->port);
	bool needs = tty && !C_CLOCAL(tty);

	tty_kref_put(tty);
	return needs;
}

static void pcn_tty_line_receive_modem(struct pcn_tty_line *line, bool carrier)
{
	bool hang_up;

	if (carrier == line->carrier)
		return;
	/* As it is before anybody sees that the carrier went: to who needs it from then on, it did not go. */
	hang_up = !carrier && pcn_tty_line_needs_carrier(line);
	WRITE_ONCE(line->carrier, carrier);
	if (!carrier) {
		if (hang_up)
			pcn_tty_line_hang_up_soon(line, PCN_TTY_HANGUP_CARRIER);
		return;
	}
	wake_up_interruptible(&line->port.open_wait);
	if (!line->rx.data) {
		line->wanted = true;
		schedule_work(&line->peer->work);
	}
}

static void pcn_tty_line_receive_credit(struct pcn_tty_line *line, u32 limit)
{
	unsigned long flags;
	u32 taken = limit - PCN_TTY_WINDOW;
	bool good;

	spin_lock_irqsave(&line->tx_lock, flags);
	/* It cannot have taken more than was sent, nor take back what it said. */
	good = taken - line->tx_taken <= line->tx_sent - line->tx_taken;
	if (good) {
		line->tx_taken = taken;
		line->tx_limit = limit;
	}
	spin_unlock_irqrestore(&line->tx_lock, flags);
	if (!good) {
		WRITE_ONCE(line->nr_bad, line->nr_bad + 1);
		return;
	}
	wake_up_all(&line->drain);
	pcn_tty_line_send(line);
}

static bool pcn_tty_line_receive_size(struct pcn_tty_line *line, const struct pcn_tty_size *size)
{
	line->size.ws_row = size->rows;
	line->size.ws_col = size->columns;
	line->size.ws_xpixel = size->width;
	line->size.ws_ypixel = size->height;
	schedule_work(&line->size_work);
	return false;
}

/**
 * pcn_tty_line_receive() - a message came
 * @line: the line
 * @head: its head, a copy
 * @data: what follows in the slot, a copy
 * @len: bytes of it
 * @body: what came outside of it; the peer may still write it
 * @body_len: bytes of that
 *
 * In softirq, one at a time for each peer.
 */
void pcn_tty_line_receive(struct pcn_tty_line *line, const struct pcn_tty_head *head, const void *data,
			  u32 len, const void *body, u32 body_len)
{
	unsigned long flags;
	bool tell = false;

	if (head->kind == PCN_TTY_CREDIT) {
		pcn_tty_line_receive_credit(line, head->value);
		return;
	}
	spin_lock_irqsave(&line->rx_lock, flags);
	switch (head->kind) {
	case PCN_TTY_DATA:
		tell = pcn_tty_line_receive_data(line, data, len, body, body_len);
		break;
	case PCN_TTY_SYNC:
		line->sync = true;
		tell = pcn_tty_line_take(line, 0);
		break;
	case PCN_TTY_MODEM:
		pcn_tty_line_receive_modem(line, head->value & 1);
		break;
	case PCN_TTY_BREAK:
		tell = pcn_tty_line_receive_break(line);
		break;
	case PCN_TTY_SIZE:
		if (len >= sizeof(struct pcn_tty_size))
			pcn_tty_line_receive_size(line, data);
		else
			line->nr_bad++;
		break;
	default: /* a later version may say more */
		break;
	}
	spin_unlock_irqrestore(&line->rx_lock, flags);
	if (tell)
		pcn_tty_line_say(line, PCN_TTY_CREDIT);
}

/* Has the line discipline something that was not read yet? Only the usual one can be asked from here. */
static bool pcn_tty_line_is_unread(struct pcn_tty_line *line)
{
	struct tty_struct *tty = tty_port_tty_get(&line->port);
	struct tty_ldisc *ld;
	bool unread = false;

	if (!tty)
		return false;
	ld = tty_ldisc_ref(tty);
	if (ld) {
		if (ld->ops->num == N_TTY)
			unread = ld->ops->poll(tty, NULL, NULL) & EPOLLIN;
		tty_ldisc_deref(ld);
	}
	tty_kref_put(tty);
	return unread;
}

/* Hands on what could not be in the context that it came in, and hangs up when that is done. */
static void pcn_tty_line_work(struct work_struct *work)
{
	struct pcn_tty_line *line = container_of(work, struct pcn_tty_line, work.work);
	u8 hangup = PCN_TTY_HANGUP_NONE;
	bool unread;

	pcn_tty_line_feed(line);
	unread = READ_ONCE(line->hangup) && pcn_tty_line_is_unread(line);
	spin_lock_irq(&line->rx_lock);
	if (line->hangup) {
		unread |= pcn_tty_ring_len(&line->rx) != 0;
		if (line->open && unread && line->patience) {
			line->patience--;
			schedule_delayed_work(&line->work, msecs_to_jiffies(PCN_TTY_RETRY_MS));
		} else {
			hangup = line->hangup;
			line->hangup = PCN_TTY_HANGUP_NONE;
		}
	}
	spin_unlock_irq(&line->rx_lock);
	if (hangup)
		tty_port_tty_hangup(&line->port, hangup == PCN_TTY_HANGUP_CARRIER);
}

static void pcn_tty_line_size_work(struct work_struct *work)
{
	struct pcn_tty_line *line = container_of(work, struct pcn_tty_line, size_work);
	struct tty_struct *tty = tty_port_tty_get(&line->port);
	struct winsize size;

	if (!tty)
		return;
	spin_lock_irq(&line->rx_lock);
	size = line->size;
	spin_unlock_irq(&line->rx_lock);
	tty_do_resize(tty, &size); /* SIGWINCH, if it is another one */
	tty_kref_put(tty);
}

/**
 * pcn_tty_line_prepare() - be ready for bytes both ways
 * @line: the line
 *
 * May sleep.
 *
 * Return: 0 or -ENOMEM.
 */
int pcn_tty_line_prepare(struct pcn_tty_line *line)
{
	u32 rx_bytes = line->nr || !pcn_tty_line_is_terminal(line) ? PCN_TTY_RING_BYTES : PCN_TTY_LOG_BYTES;
	u8 *tx = NULL, *rx = NULL;
	int ret = 0;

	mutex_lock(&line->peer->mutex);
	line->wanted = false;
	if (line->rx.data)
		goto out;
	tx = kvmalloc(PCN_TTY_RING_BYTES, GFP_KERNEL);
	rx = kvmalloc(rx_bytes, GFP_KERNEL);
	if (!tx || !rx) {
		kvfree(tx);
		kvfree(rx);
		ret = -ENOMEM;
		goto out;
	}
	spin_lock_irq(&line->tx_lock);
	line->tx.data = tx;
	line->tx.size = PCN_TTY_RING_BYTES;
	spin_unlock_irq(&line->tx_lock);
	spin_lock_irq(&line->rx_lock);
	line->rx.data = rx;
	line->rx.size = rx_bytes;
	spin_unlock_irq(&line->rx_lock);
	pcn_tty_line_say(line, PCN_TTY_CREDIT);
out:
	mutex_unlock(&line->peer->mutex);
	return ret;
}

/**
 * pcn_tty_line_begin() - a peer comes: all counts from zero
 * @line: the line
 *
 * Nothing is sent yet.
 */
void pcn_tty_line_begin(struct pcn_tty_line *line)
{
	unsigned long flags;
	u8 hangup;
	u32 max;

	spin_lock_irqsave(&line->rx_lock, flags);
	hangup = line->hangup;
	line->hangup = PCN_TTY_HANGUP_NONE;
	spin_unlock_irqrestore(&line->rx_lock, flags);
	if (hangup) /* it was gone so shortly that nobody has been told */
		tty_port_tty_hangup(&line->port, false);

	spin_lock_irqsave(&line->tx_lock, flags);
	line->tx_sent = 0;
	line->tx_limit = 0;
	line->tx_taken = 0;
	line->tx.out = line->tx.in;
	line->due = BIT(PCN_TTY_MODEM);
	spin_unlock_irqrestore(&line->tx_lock, flags);

	spin_lock_irqsave(&line->rx_lock, flags);
	max = line->rx.size ? line->rx.size - PCN_TTY_WINDOW : 0;
	/* Who changes these from here on says so, and that is not forgotten any more. */
	if (line->rx.size)
		set_bit(PCN_TTY_CREDIT, &line->due);
	if (line->size.ws_row || line->size.ws_col)
		set_bit(PCN_TTY_SIZE, &line->due);
	/* A terminal may still show what the one before said, as far as that leaves room for a window. */
	if (pcn_tty_ring_len(&line->rx) > max)
		line->rx.out = line->rx.in - max;
	line->rx_kept = pcn_tty_ring_len(&line->rx);
	line->rx_received = 0;
	line->rx_taken = 0;
	WRITE_ONCE(line->rx_told, 0);
	line->breaks = false;
	line->sync = false;
	line->sysrq_until = 0;
	spin_unlock_irqrestore(&line->rx_lock, flags);
}

/**
 * pcn_tty_line_end() - the peer is gone: who has the line open is told
 * @line: the line
 */
void pcn_tty_line_end(struct pcn_tty_line *line)
{
	unsigned long flags;

	spin_lock_irqsave(&line->rx_lock, flags);
	WRITE_ONCE(line->carrier, false);
	pcn_tty_line_hang_up_soon(line, PCN_TTY_HANGUP_PEER);
	spin_unlock_irqrestore(&line->rx_lock, flags);
	pcn_tty_line_discard(line);
	wake_up_interruptible(&line->port.open_wait);
}

/**
 * pcn_tty_line_setup() - make a line that leads nowhere yet
 * @line: zeroed
 * @peer: where to
 * @nr: which of the lines there
 */
void pcn_tty_line_setup(struct pcn_tty_line *line, struct pcn_tty_peer *peer, u32 nr)
{
	line->peer = peer;
	line->nr = nr;
	spin_lock_init(&line->tx_lock);
	spin_lock_init(&line->rx_lock);
	init_waitqueue_head(&line->drain);
	INIT_DELAYED_WORK(&line->work, pcn_tty_line_work);
	INIT_WORK(&line->size_work, pcn_tty_line_size_work);
}

/**
 * pcn_tty_line_free() - undo it; nobody has the line open, and no message comes any more
 * @line: the line
 */
void pcn_tty_line_free(struct pcn_tty_line *line)
{
	cancel_delayed_work_sync(&line->work);
	cancel_work_sync(&line->size_work);
	kvfree(line->tx.data);
	kvfree(line->rx.data);
	memset(&line->tx, 0, sizeof(line->tx));
	memset(&line->rx, 0, sizeof(line->rx));
}
