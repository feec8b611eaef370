/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _PCN_TTY_H
#define _PCN_TTY_H

#include <linux/spinlock.h>
#include <linux/tty.h>
#include <linux/tty_driver.h>
#include <linux/tty_port.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "popcorn.h"
#include "wire.h"

/* Powers of two, and more than PCN_TTY_WINDOW; what a closed terminal keeps is the difference. */
#define PCN_TTY_RING_BYTES	(64 << 10)
#define PCN_TTY_LOG_BYTES	(256 << 10)	/* where a kernel's own messages may wait */
#define PCN_TTY_NODE_MINORS	(POPCORN_NODES_MAX * PCN_TTY_LINES)

/**
 * struct pcn_tty_ring - bytes that wait
 * @data: NULL as long as nobody needs it
 * @size: its bytes, a power of two; 0 without
 * @in: bytes that were put in, ever
 * @out: bytes that were taken out, ever
 */
struct pcn_tty_ring {
	u8 *data;
	u32 size;
	u32 in;
	u32 out;
};

static inline u32 pcn_tty_ring_len(const struct pcn_tty_ring *ring)
{
	return ring->in - ring->out;
}

static inline u32 pcn_tty_ring_room(const struct pcn_tty_ring *ring)
{
	return ring->size - pcn_tty_ring_len(ring);
}

u32 pcn_tty_ring_put(struct pcn_tty_ring *ring, const void *from, u32 len);
u32 pcn_tty_ring_peek(const struct pcn_tty_ring *ring, void *to, u32 len);
const u8 *pcn_tty_ring_front(const struct pcn_tty_ring *ring, u32 *len);

enum pcn_tty_hangup {
	PCN_TTY_HANGUP_NONE,
	PCN_TTY_HANGUP_CARRIER,		/* the other end was closed: unless clocal */
	PCN_TTY_HANGUP_PEER,		/* the other kernel is gone */
};

/**
 * struct pcn_tty_line - this end of a line
 * @port: the tty layer's; first member
 * @peer: the node at the other end
 * @nr: number of the line between the two
 * @dev: in sysfs, NULL before the peer was seen
 *
 * @tx_lock: for everything up to @nr_breaks_sent; never taken inside @rx_lock
 * @tx: what was written and not sent
 * @tx_sent: bytes sent since peer_up
 * @tx_limit: how far that may go
 * @tx_taken: how many of them the other side has taken
 * @due: messages that are to be sent (bit by enum pcn_tty_kind)
 * @stopped: by Ctrl-S
 * @dtr: our end is open
 * @nr_tx: bytes sent, ever
 * @drain: waits for @tx_taken
 *
 * @rx_lock: for everything up to @nr_bad
 * @rx: what came and was not handed to the tty layer
 * @rx_kept: bytes of it, the first ones, that are taken as far as the other side is concerned
 * @rx_received: bytes that came since peer_up
 * @rx_taken: how many of them are taken
 * @rx_told: up to which count the other side may send; changed under @tx_lock
 * @break_after: bytes of @rx before a break, if @breaks
 * @breaks: there is a break in @rx
 * @sync: the other side wants to hear when @rx is empty
 * @open: @rx is to be handed on
 * @throttled: but not now
 * @carrier: the other end is open
 * @hangup: enum pcn_tty_hangup, to be done once @rx is read
 * @patience: how often that may still be put off
 * @sysrq_until: jiffies until which a byte after a break is a sysrq
 * @nr_rx: bytes handed to the tty layer, ever
 * @nr_breaks: breaks that came
 * @nr_bad: messages that cannot be
 *
 * @wanted: have rings made
 * @size: of the window, as either side said last
 * @work: hands on what could not be, and hangs up
 * @size_work: tells the tty of @size
 */
struct pcn_tty_line {
	struct tty_port port;
	struct pcn_tty_peer *peer;
	u32 nr;
	struct device *dev;

	spinlock_t tx_lock;
	struct pcn_tty_ring tx;
	u32 tx_sent;
	u32 tx_limit;
	u32 tx_taken;
	unsigned long due;
	bool stopped;
	bool dtr;
	u32 nr_tx;
	wait_queue_head_t drain;

	spinlock_t rx_lock;
	struct pcn_tty_ring rx;
	u32 rx_kept;
	u32 rx_received;
	u32 rx_taken;
	u32 rx_told;
	u32 break_after;
	bool breaks;
	bool sync;
	bool open;
	bool throttled;
	bool carrier;
	u8 hangup;
	u8 patience;
	unsigned long sysrq_until;
	u32 nr_rx;
	u32 nr_breaks;
	u32 nr_bad;

	bool wanted;
	struct winsize size;
	struct delayed_work work;
	struct work_struct size_work;
};

/**
 * struct pcn_tty_peer - a node that may be at the other end
 * @node: ours
 * @id: its node id
 * @up: it can be sent to
 * @tell: udev is to hear that it came or went
 * @turn: line that gets the next room in the channel first
 * @work: what its coming and going needs process context for
 * @mutex: one at a time makes rings and devices
 * @line: the lines to it
 */
struct pcn_tty_peer {
	struct pcn_tty_node *node;
	u32 id;
	bool up;
	bool tell;
	u32 turn;
	struct work_struct work;
	struct mutex mutex;
	struct pcn_tty_line line[PCN_TTY_LINES];
};

/**
 * struct pcn_tty_node - a node of this kernel that has the service: one, but for loopback
 * @service: first member
 * @base: minor of its first line
 * @peer: by node id
 */
struct pcn_tty_node {
	struct pcn_service service;
	u32 base;
	struct pcn_tty_peer peer[POPCORN_NODES_MAX];
};

/* line.c: bytes and what comes with them. */
void pcn_tty_line_setup(struct pcn_tty_line *line, struct pcn_tty_peer *peer, u32 nr);
void pcn_tty_line_free(struct pcn_tty_line *line);
int pcn_tty_line_prepare(struct pcn_tty_line *line);
void pcn_tty_line_begin(struct pcn_tty_line *line);
void pcn_tty_line_end(struct pcn_tty_line *line);
void pcn_tty_line_open(struct pcn_tty_line *line);
void pcn_tty_line_close(struct pcn_tty_line *line);
void pcn_tty_line_receive(struct pcn_tty_line *line, const struct pcn_tty_head *head, const void *data,
			  u32 len, const void *body, u32 body_len);
u32 pcn_tty_line_write(struct pcn_tty_line *line, const void *data, u32 len);
void pcn_tty_line_discard(struct pcn_tty_line *line);
void pcn_tty_line_send(struct pcn_tty_line *line);
void pcn_tty_line_say(struct pcn_tty_line *line, enum pcn_tty_kind kind);
void pcn_tty_line_stop(struct pcn_tty_line *line, bool stop);
void pcn_tty_line_raise(struct pcn_tty_line *line, bool on);
void pcn_tty_line_feed(struct pcn_tty_line *line);
void pcn_tty_line_throttle(struct pcn_tty_line *line, bool on);
long pcn_tty_line_drain(struct pcn_tty_line *line, long timeout);

/* peer.c: the service. */
struct pcn_tty_node *pcn_tty_node_create(int at, u32 base);
void pcn_tty_node_destroy(struct pcn_tty_node *node);
bool pcn_tty_line_is_terminal(const struct pcn_tty_line *line);

/* driver.c: the tty driver. */
int pcn_tty_driver_init(void);
void pcn_tty_driver_exit(void);
struct tty_driver *pcn_tty_driver(void);
void pcn_tty_driver_own(struct pcn_tty_node *node);
void pcn_tty_driver_disown(struct pcn_tty_node *node);
int pcn_tty_driver_add(struct pcn_tty_line *line);
void pcn_tty_driver_remove(struct pcn_tty_line *line);

/* console.c: what a secondary prints. */
void pcn_tty_console_init(struct pcn_tty_peer *primary);
void pcn_tty_console_exit(void);
bool pcn_tty_console_is_on(const struct pcn_tty_line *line);
void pcn_tty_console_move(struct pcn_tty_ring *to);

#endif
