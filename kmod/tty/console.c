// SPDX-License-Identifier: GPL-2.0
/*
 * console=ttyPCN0 in a secondary: what the kernel prints goes to line 0 to the primary, from its first
 * line of this boot on. printk may come from anywhere, so it is only put into a ring here, which overwrites
 * its oldest; an irq_work sends it. A kernel that panics sends no more: its log is read out of its memory.
 */
#include <linux/console.h>
#include <linux/irq_work.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>

#include "tty.h"

static struct pcn_tty_peer *pcn_console_peer;
static struct pcn_tty_line *pcn_console_line;
static struct pcn_tty_ring pcn_console_ring;
static DEFINE_RAW_SPINLOCK(pcn_console_lock);
static struct irq_work pcn_console_work;

/* Under the lock. */
static void pcn_tty_console_put(const char *data, u32 len)
{
	u32 room = pcn_tty_ring_room(&pcn_console_ring);

	if (len > room)
		pcn_console_ring.out += len - room;
	pcn_tty_ring_put(&pcn_console_ring, data, len);
}

/* Under the lock. Lines end as terminals want it. */
static void pcn_tty_console_print(const char *text, unsigned int len)
{
	unsigned int i, from = 0;

	for (i = 0; i < len; i++) {
		if (text[i] != '\n')
			continue;
		pcn_tty_console_put(text + from, i - from);
		pcn_tty_console_put("\r\n", 2);
		from = i + 1;
	}
	pcn_tty_console_put(text + from, len - from);
}

/*
 * @anywhere: the lock may be held by what was interrupted, or by a CPU that was stopped in a panic; what is
 * printed then is left out here, and is in the log.
 */
static void pcn_tty_console_take(const char *text, unsigned int len, bool anywhere)
{
	unsigned long flags;

	if (!anywhere)
		raw_spin_lock_irqsave(&pcn_console_lock, flags);
	else if (!raw_spin_trylock_irqsave(&pcn_console_lock, flags))
		return;
	pcn_tty_console_print(text, len);
	raw_spin_unlock_irqrestore(&pcn_console_lock, flags);
	irq_work_queue(&pcn_console_work);
}

#if PCN_COMPAT_NBCON
/* Keeps the thread from its writing; nothing else does anything to this console. */
static DEFINE_SPINLOCK(pcn_console_device);

/* From any context, while printk must not wait for the console's thread: an oops, a panic, the boot. */
static void pcn_tty_console_write_atomic(struct console *console, struct nbcon_write_context *context)
{
	if (!nbcon_enter_unsafe(context))
		return; /* another one took over and prints it */
	pcn_tty_console_take(context->outbuf, context->len, true);
	nbcon_exit_unsafe(context);
}

static void pcn_tty_console_write_thread(struct console *console, struct nbcon_write_context *context)
{
	if (!nbcon_enter_unsafe(context))
		return;
	pcn_tty_console_take(context->outbuf, context->len, false);
	nbcon_exit_unsafe(context);
}

static void pcn_tty_console_lock(struct console *console, unsigned long *flags)
{
	spin_lock_irqsave(&pcn_console_device, *flags);
}

static void pcn_tty_console_unlock(struct console *console, unsigned long flags)
{
	spin_unlock_irqrestore(&pcn_console_device, flags);
}
#else
static void pcn_tty_console_write(struct console *console, const char *text, unsigned int len)
{
	pcn_tty_console_take(text, len, oops_in_progress);
}
#endif

static void pcn_tty_console_send(struct irq_work *work)
{
	struct pcn_tty_line *line = READ_ONCE(pcn_console_line);

	if (line)
		pcn_tty_line_send(line);
}

static struct tty_driver *pcn_tty_console_device(struct console *console, int *index)
{
	*index = console->index;
	return pcn_tty_driver();
}

static int pcn_tty_console_setup(struct console *console, char *options)
{
	if (console->index < 0 || console->index >= PCN_TTY_LINES)
		return -ENODEV;
	pcn_console_peer->line[console->index].wanted = true;
	WRITE_ONCE(pcn_console_line, &pcn_console_peer->line[console->index]);
	schedule_work(&pcn_console_peer->work);
	return 0;
}

static struct console pcn_console = {
	.name = "ttyPCN",
#if PCN_COMPAT_NBCON
	.write_atomic = pcn_tty_console_write_atomic,
	.write_thread = pcn_tty_console_write_thread,
	.device_lock = pcn_tty_console_lock,
	.device_unlock = pcn_tty_console_unlock,
	.flags = CON_PRINTBUFFER | CON_NBCON,
#else
	.write = pcn_tty_console_write,
	.flags = CON_PRINTBUFFER,
#endif
	.device = pcn_tty_console_device,
	.setup = pcn_tty_console_setup,
	.index = -1,
};

/**
 * pcn_tty_console_is_on() - does the kernel print to a line
 * @line: the line
 */
bool pcn_tty_console_is_on(const struct pcn_tty_line *line)
{
	return READ_ONCE(pcn_console_line) == line;
}

/**
 * pcn_tty_console_move() - take from what was printed as much as there is room for
 * @to: the ring of the console's line, under its lock
 */
void pcn_tty_console_move(struct pcn_tty_ring *to)
{
	unsigned long flags;
	const u8 *data;
	u32 len;

	raw_spin_lock_irqsave(&pcn_console_lock, flags);
	for (;;) {
		data = pcn_tty_ring_front(&pcn_console_ring, &len);
		len = pcn_tty_ring_put(to, data, len);
		if (!len)
			break;
		pcn_console_ring.out += len;
	}
	raw_spin_unlock_irqrestore(&pcn_console_lock, flags);
}

/**
 * pcn_tty_console_init() - be the console, if the command line says so
 * @primary: the lines that it may be on
 */
void pcn_tty_console_init(struct pcn_tty_peer *primary)
{
	pcn_console_ring.data = kvmalloc(PCN_TTY_LOG_BYTES, GFP_KERNEL);
	if (!pcn_console_ring.data)
		return;
	pcn_console_ring.size = PCN_TTY_LOG_BYTES;
	pcn_console_peer = primary;
	init_irq_work(&pcn_console_work, pcn_tty_console_send);
	register_console(&pcn_console);
}

/**
 * pcn_tty_console_exit() - be no console
 */
void pcn_tty_console_exit(void)
{
	u8 *data;

	if (!pcn_console_peer)
		return;
	unregister_console(&pcn_console);
	irq_work_sync(&pcn_console_work);
	WRITE_ONCE(pcn_console_line, NULL);
	pcn_console_peer = NULL;
	/* Its line may just be taking from it. */
	raw_spin_lock_irq(&pcn_console_lock);
	data = pcn_console_ring.data;
	memset(&pcn_console_ring, 0, sizeof(pcn_console_ring));
	raw_spin_unlock_irq(&pcn_console_lock);
	kvfree(data);
}
