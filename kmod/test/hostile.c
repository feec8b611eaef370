// SPDX-License-Identifier: GPL-2.0
/*
 * A kernel gone mad, for the tests: loaded in a secondary, it scribbles over the fabric while traffic runs. Loaded
 * in the primary, it only tells the other one when and how:
 *
 *	echo NODE SEED ROUNDS MODE... >/sys/module/popcorn_hostile/parameters/tell
 *
 * The modes are gone through one after the other, without a word from outside: after the first ones nobody may
 * listen to that kernel any more.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kstrtox.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/task.h>

#include "popcorn_host.h"

#define HOSTILE_MODES	8	/* of one order */
#define HOSTILE_PEERS	4	/* that it looks for; there are few */
#define HOSTILE_TELL_MS	60000
#define HOSTILE_BURST	512	/* writes until somebody else may run */

/**
 * struct hostile_order - what travels
 * @seed: of the random numbers
 * @rounds: writes of each mode
 * @mode: indices into hostile_modes, 1 more than that; 0 after the last
 */
struct hostile_order {
	__u32 seed;
	__u32 rounds;
	__u8 mode[HOSTILE_MODES];
};

static struct pcn_service hostile_service;
static struct hostile_order hostile_order;
static struct task_struct *hostile_task;
static unsigned long hostile_busy;

/* The fabric, as this kernel maps it for itself; NULL in the primary. */
static struct pcn_shm_header *hostile_fabric;
static struct pcn_shm_header hostile_geometry;
static unsigned long hostile_node;

static u64 hostile_random_state;

static u64 hostile_random(void)
{
	u64 x = hostile_random_state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	hostile_random_state = x;
	return x * 0x2545f4914f6cdd1dULL;
}

static u32 hostile_below(u64 limit)
{
	return (hostile_random() >> 16) % limit;
}

/* A value that is likely to hurt, given what is there. */
static u64 hostile_value(u64 now)
{
	switch (hostile_below(9)) {
	case 0:
		return 0;
	case 1:
		return ~0ULL;
	case 2:
		return now + 1;
	case 3:
		return now - 1;
	case 4:
		return 1ULL << hostile_below(64);
	case 5:
		return now ^ 1ULL << hostile_below(64);
	case 6:
		return now + (1ULL << hostile_below(32));
	case 7:
		return (u32)hostile_random();
	default:
		return hostile_random();
	}
}

/* Something else into a word of shared memory. */
static void hostile_hit(void *word, u32 bytes)
{
	switch (bytes) {
	case 1:
		WRITE_ONCE(*(u8 *)word, hostile_value(READ_ONCE(*(u8 *)word)));
		break;
	case 4:
		WRITE_ONCE(*(u32 *)word, hostile_value(READ_ONCE(*(u32 *)word)));
		break;
	default:
		WRITE_ONCE(*(u64 *)word, hostile_value(READ_ONCE(*(u64 *)word)));
	}
}

/* Somewhere in a range that begins at a multiple of 8. */
static void hostile_hit_in(void *start, size_t bytes)
{
	u32 width = hostile_below(4) ? 8 : hostile_below(2) ? 4 : 1;

	hostile_hit(start + hostile_below(bytes / width) * (u64)width, width);
}

static struct pcn_shm_node *hostile_slot(u32 node)
{
	return (void *)hostile_fabric + hostile_geometry.nodes_offset + node * hostile_geometry.node_bytes;
}

static struct pcn_shm_channel *hostile_channel(u32 src, u32 dst, u32 queue)
{
	size_t index = (queue * hostile_geometry.nr_nodes + src) * hostile_geometry.nr_nodes + dst;

	return (void *)hostile_fabric + hostile_geometry.channels_offset + index * hostile_geometry.channel_bytes;
}

static void *hostile_area(void)
{
	return (void *)hostile_fabric + hostile_geometry.areas_offset + hostile_node * hostile_geometry.area_bytes;
}

/* One of those that may listen; the primary is the one that counts. */
static u32 hostile_peer(void)
{
	u32 node;

	do
		node = hostile_below(2) ? 0 : hostile_below(HOSTILE_PEERS);
	while (node == hostile_node || node >= hostile_geometry.nr_nodes);
	return node;
}

static u32 hostile_queue(void)
{
	return hostile_below(hostile_geometry.nr_queues);
}

/**
 * struct hostile_ring - where this node sends to a peer
 * @shm: the channel
 * @slot: its slots
 * @nr: how many
 */
struct hostile_ring {
	struct pcn_shm_channel *shm;
	struct pcn_shm_slot *slot;
	u32 nr;
};

static struct hostile_ring hostile_rings[HOSTILE_PEERS][PCN_SHM_QUEUES];

/* Has the peer look at its channel from here, whatever became of the doorbells that this kernel would ring. */
static void hostile_ring_doorbell(u32 peer, u32 queue)
{
	u64 doorbell = READ_ONCE(hostile_slot(peer)->doorbell[queue]);

	WRITE_ONCE(hostile_slot(peer)->queue[queue].pending[hostile_node], 1);
	if (doorbell)
		pcn_ipi_send((u32)doorbell, doorbell >> 32);
}

static u32 hostile_seq(u32 seq, u32 add)
{
	return (seq & 0xfff00000) | ((seq + add) & 0xfffff);
}

/* The message that was sent last: the one that is not followed by the next. */
static bool hostile_find_newest(const struct hostile_ring *ring, const struct pcn_shm_slot **newest)
{
	u32 i;

	for (i = 0; i < ring->nr; i++) {
		u32 seq = PCN_SHM_HEAD_SEQ(READ_ONCE(ring->slot[i].head));
		u32 next = PCN_SHM_HEAD_SEQ(READ_ONCE(ring->slot[(i + 1) % ring->nr].head));

		if (seq >> 20 && seq % ring->nr == i && next != hostile_seq(seq, 1)) {
			*newest = &ring->slot[i];
			return true;
		}
	}
	return false;
}

/* Follows a ring that has grown to where it is now. */
static void hostile_find_ring(u32 peer, u32 queue)
{
	struct hostile_ring *ring = &hostile_rings[peer][queue];
	const struct pcn_shm_slot *newest;
	struct pcn_shm_move move;
	u32 moves;

	ring->shm = hostile_channel(hostile_node, peer, queue);
	ring->slot = ring->shm->slot;
	ring->nr = hostile_geometry.ring_slots;
	for (moves = 0; moves < 16 && hostile_find_newest(ring, &newest); moves++) {
		if (!(PCN_SHM_HEAD_FLAGS(READ_ONCE(newest->head)) & PCN_SHM_FLAG_MOVE))
			return;
		memcpy(&move, newest->data, sizeof(move));
		/* What an earlier mode made of it. */
		if (move.nr_slots < 4 || move.nr_slots > PCN_SHM_RING_SLOTS_MAX || !is_power_of_2(move.nr_slots) ||
		    move.offset > hostile_geometry.area_bytes ||
		    move.nr_slots * sizeof(ring->slot[0]) > hostile_geometry.area_bytes - move.offset)
			return;
		ring->slot = hostile_area() + move.offset;
		ring->nr = move.nr_slots;
	}
}

/* Those that have not grown as yet, before anything of them is damaged. */
static void hostile_find_rings(void)
{
	u32 peer, queue;

	for (peer = 0; peer < HOSTILE_PEERS; peer++) {
		for (queue = 0; queue < hostile_geometry.nr_queues; queue++) {
			struct hostile_ring *ring = &hostile_rings[peer][queue];

			if (peer != hostile_node && (!ring->shm || ring->slot == ring->shm->slot))
				hostile_find_ring(peer, queue);
		}
	}
}

/* What the receiver said last that it is done with. */
static u64 hostile_done(const struct hostile_ring *ring)
{
	return READ_ONCE(ring->shm->rx.done);
}

/* The slot, and the sequence word, of the message @add later than that. */
static struct pcn_shm_slot *hostile_slot_at(const struct hostile_ring *ring, u64 done, u32 add, u32 *seq)
{
	*seq = (u32)(done >> 32) << 20 | ((u32)(done + add) & 0xfffff);
	return &ring->slot[*seq % ring->nr];
}

static bool hostile_is_there(const struct hostile_ring *ring, u64 done, u32 add)
{
	u32 seq;
	struct pcn_shm_slot *slot = hostile_slot_at(ring, done, add, &seq);

	return PCN_SHM_HEAD_SEQ(READ_ONCE(slot->head)) == seq;
}

/* How many messages there are from there on: the receiver is somewhere among them, or stuck at the first. */
static u32 hostile_under_way(const struct hostile_ring *ring, u64 done)
{
	u32 none = ring->nr, some = 0, middle;

	if (!hostile_is_there(ring, done, 0))
		return 0;
	while (none - some > 1) {
		middle = some + (none - some) / 2;
		if (hostile_is_there(ring, done, middle))
			some = middle;
		else
			none = middle;
	}
	return none;
}

/* What this node keeps its bodies and rings in. */
static void hostile_do_area(void)
{
	hostile_hit_in(hostile_area(), hostile_geometry.area_bytes);
}

/* Its slot, but for what says that it is there at all. */
static void hostile_do_slot(void)
{
	struct pcn_shm_node *slot = hostile_slot(hostile_node);

	switch (hostile_below(8)) {
	case 0:
		hostile_hit(&slot->heartbeat, 8);
		break;
	case 1:
		/* A CPU of somebody else, or a vector that is an exception or the kernel's own. */
		WRITE_ONCE(slot->doorbell[hostile_queue()],
			   hostile_below(8) | (u64)hostile_below(256) << 32);
		break;
	case 2:
		hostile_hit(&slot->doorbell[hostile_below(PCN_SHM_QUEUES)], 8);
		break;
	case 3:
		hostile_hit(&slot->services_seq, 4);
		break;
	case 4:
		hostile_hit_in(slot->service, sizeof(slot->service));
		hostile_hit(&slot->services_seq, 4);
		break;
	case 5:
		hostile_hit_in(slot->queue, sizeof(slot->queue));
		break;
	case 6:
		hostile_hit(&slot->nr_queues, 4);
		break;
	default:
		hostile_hit_in(&slot->heartbeat, sizeof(*slot) - offsetof(struct pcn_shm_node, heartbeat));
	}
}

/* What it tells senders to it, and the lines that it shares with receivers. */
static void hostile_do_lines(void)
{
	u32 peer = hostile_peer(), queue = hostile_queue();
	struct pcn_shm_channel *in = hostile_channel(peer, hostile_node, queue);
	struct pcn_shm_channel *out = hostile_channel(hostile_node, peer, queue);
	struct pcn_shm_slot *slot;

	switch (hostile_below(8)) {
	case 0:
		hostile_hit(&in->rx.done, 8);
		break;
	case 1:
		hostile_hit(&in->arm.armed, 4);
		break;
	case 2:
		hostile_hit_in(in->latency, sizeof(in->latency));
		break;
	case 3:
		hostile_hit(&out->room.wanted, 8);
		break;
	case 4:
		hostile_hit(&out->tx.doorbell_tsc, 8);
		break;
	case 5:
		hostile_hit(&out->tx.doorbells, 8);
		break;
	case 6:
		hostile_hit(&hostile_slot(peer)->queue[queue].pending[hostile_node], 1);
		hostile_hit(&hostile_slot(peer)->queue[queue].asleep, 4);
		break;
	default:
		/* An answer that nobody asked for, or another one. */
		slot = &in->slot[hostile_below(hostile_geometry.ring_slots)];
		WRITE_ONCE(slot->head, READ_ONCE(slot->head) | (u64)PCN_SHM_FLAG_ANSWER << 56);
	}
}

/* Another head, of the same number. */
static u64 hostile_head(u64 head)
{
	u32 len = PCN_SHM_HEAD_LEN(head), flags = PCN_SHM_HEAD_FLAGS(head), service = PCN_SHM_HEAD_SERVICE(head);

	switch (hostile_below(5)) {
	case 0:
		len = hostile_value(len) & 0xff;
		break;
	case 1:
		flags = hostile_value(flags) & 0xff;
		break;
	case 2:
		service = hostile_value(service) & 0xffff;
		break;
	case 3:
		flags |= PCN_SHM_FLAG_BODY;
		break;
	default:
		flags |= PCN_SHM_FLAG_MOVE;
	}
	return PCN_SHM_HEAD(PCN_SHM_HEAD_SEQ(head), service, len, flags);
}

/* A body or a move that leads somewhere else. */
static void hostile_place(struct pcn_shm_slot *slot)
{
	u32 area = hostile_geometry.area_bytes;
	/* A body is told of at the end of the payload, a move at its beginning. */
	u32 *place = (void *)slot->data + (hostile_below(3) ? PCN_SHM_HEAD_BYTES : 0);

	switch (hostile_below(5)) {
	case 0:
		hostile_hit(&place[0], 4);
		break;
	case 1:
		hostile_hit(&place[1], 4);
		break;
	case 2:
		/* Ends just behind the area. */
		WRITE_ONCE(place[0], area - PCN_SHM_UNIT_BYTES);
		WRITE_ONCE(place[1], PCN_SHM_UNIT_BYTES + 1 + hostile_below(PCN_SHM_BODY_BYTES));
		break;
	case 3:
		WRITE_ONCE(place[0], -PCN_SHM_UNIT_BYTES);
		WRITE_ONCE(place[1], 2 * PCN_SHM_UNIT_BYTES);
		break;
	default:
		WRITE_ONCE(place[0], hostile_below(area));
		WRITE_ONCE(place[1], hostile_below(2 * PCN_SHM_BODY_BYTES));
	}
}

static const struct hostile_ring *hostile_ring(void)
{
	u32 peer = hostile_peer();

	return &hostile_rings[peer][hostile_queue()];
}

/* Messages that are on their way. */
static void hostile_do_head(void)
{
	const struct hostile_ring *ring = hostile_ring();
	u64 done = hostile_done(ring);
	u32 nr = hostile_under_way(ring, done), seq, i;

	for (i = nr - min(nr, 8U); i < nr; i++) {
		struct pcn_shm_slot *slot = hostile_slot_at(ring, done, i, &seq);

		if (hostile_below(4))
			WRITE_ONCE(slot->head, hostile_head(READ_ONCE(slot->head)));
		else
			hostile_place(slot);
		if (!hostile_below(4))
			hostile_hit(&slot->tsc, 8);
	}
}

/* A place that cannot be, neither as a body nor as a ring. */
static void hostile_no_place(struct pcn_shm_slot *slot)
{
	u32 area = hostile_geometry.area_bytes;
	const u32 places[][2] = {
		{ 8, 2048 },
		{ area - PCN_SHM_UNIT_BYTES, 4096 },
		{ -PCN_SHM_UNIT_BYTES, 2048 },
		{ area, 64 },
		{ 0, 0 },
		{ 0, 1U << 31 },
		{ 0, ~0U },
	};
	u32 i = hostile_below(ARRAY_SIZE(places)), *place = (void *)slot->data;

	WRITE_ONCE(place[0], places[i][0]);
	WRITE_ONCE(place[1], places[i][1]);
	place += PCN_SHM_HEAD_BYTES / sizeof(*place);
	WRITE_ONCE(place[0], places[i][0]);
	WRITE_ONCE(place[1], places[i][1]);
}

/* A message that looks right as far as its number goes, and in nothing else. */
static void hostile_forge(struct pcn_shm_slot *slot, u32 seq)
{
	u64 head = READ_ONCE(slot->head);

	hostile_no_place(slot);
	switch (hostile_below(4)) {
	case 0:
		head = PCN_SHM_HEAD(seq, hostile_random(), 49 + hostile_below(200), hostile_below(2));
		break;
	case 1:
		head = PCN_SHM_HEAD(seq, hostile_random(), hostile_below(49), hostile_random());
		break;
	case 2:
		head = PCN_SHM_HEAD(seq, PCN_SHM_HEAD_SERVICE(head), 32, PCN_SHM_FLAG_BODY);
		break;
	default:
		head = PCN_SHM_HEAD(seq, PCN_SHM_HEAD_SERVICE(head), sizeof(struct pcn_shm_move),
				    PCN_SHM_FLAG_MOVE);
	}
	/* As a real sender does: the rest of the slot first. */
	smp_store_release(&slot->head, head);
}

/*
 * The last that are on their way, and more behind them: a receiver comes to them wherever it is. It is told, as by
 * now this kernel's own senders may all be waiting for doorbells that were spoilt.
 */
static void hostile_do_forge(void)
{
	u32 peer = hostile_peer(), queue = hostile_queue();
	const struct hostile_ring *ring = &hostile_rings[peer][queue];
	u64 done = hostile_done(ring);
	u32 nr = hostile_under_way(ring, done), seq, i;

	for (i = nr - min(nr, 16U); i < nr + 16; i++) {
		struct pcn_shm_slot *slot = hostile_slot_at(ring, done, i, &seq);

		hostile_forge(slot, seq);
	}
	hostile_ring_doorbell(peer, queue);
}

/* Messages that never come. */
static void hostile_do_seq(void)
{
	const struct hostile_ring *ring = hostile_ring();
	u32 seq;

	hostile_hit(&hostile_slot_at(ring, hostile_done(ring), hostile_below(64), &seq)->head, 4);
}

/* That it is there at all, who it is, and which CPUs it has: some of it is the primary's to write. */
static void hostile_do_state(void)
{
	struct pcn_shm_node *slot = hostile_slot(hostile_node);

	switch (hostile_below(4)) {
	case 0:
		WRITE_ONCE(slot->state, hostile_below(10));
		break;
	case 1:
		hostile_hit(&slot->epoch, 4);
		break;
	default:
		hostile_hit_in(slot, offsetof(struct pcn_shm_node, heartbeat));
	}
}

/* Anything of what is its own to write. */
static void hostile_do_own(void)
{
	u32 peer = hostile_peer(), queue = hostile_queue();
	struct pcn_shm_channel *in = hostile_channel(peer, hostile_node, queue);
	struct pcn_shm_channel *out = hostile_channel(hostile_node, peer, queue);

	switch (hostile_below(5)) {
	case 0:
		hostile_hit_in(&hostile_slot(hostile_node)->heartbeat,
			       sizeof(struct pcn_shm_node) - offsetof(struct pcn_shm_node, heartbeat));
		break;
	case 1:
		hostile_hit_in(out->slot, hostile_geometry.ring_slots * sizeof(out->slot[0]));
		break;
	case 2:
		hostile_hit_in(hostile_below(2) ? (void *)&out->tx : (void *)&out->room, 64);
		break;
	case 3:
		hostile_hit_in(&in->rx, offsetof(struct pcn_shm_channel, room) -
					offsetof(struct pcn_shm_channel, rx));
		hostile_hit_in(in->latency, sizeof(in->latency));
		break;
	default:
		hostile_hit_in(hostile_area(), hostile_geometry.area_bytes);
	}
}

/* Anything at all. */
static void hostile_do_all(void)
{
	u64 bytes = hostile_geometry.fabric_bytes;

	/* Most of it is areas; the rest is what hurts. */
	if (!hostile_below(4))
		bytes = hostile_geometry.channels_offset;
	else if (hostile_below(2))
		bytes = hostile_geometry.areas_offset;
	hostile_hit_in(hostile_fabric, bytes);
}

static const struct {
	const char *name;
	void (*once)(void);
} hostile_modes[] = {
	{ "area", hostile_do_area },
	{ "slot", hostile_do_slot },
	{ "lines", hostile_do_lines },
	{ "head", hostile_do_head },
	{ "forge", hostile_do_forge },
	{ "seq", hostile_do_seq },
	{ "state", hostile_do_state },
	{ "own", hostile_do_own },
	{ "all", hostile_do_all },
};

static int hostile_thread(void *unused)
{
	u32 i, round;

	hostile_random_state = hostile_order.seed | 1ULL << 63;
	for (i = 0; i < HOSTILE_MODES && hostile_order.mode[i] && !kthread_should_stop(); i++) {
		u32 mode = hostile_order.mode[i] - 1;

		if (mode >= ARRAY_SIZE(hostile_modes))
			break;
		hostile_find_rings();
		for (round = 0; round < hostile_order.rounds && !kthread_should_stop(); round++) {
			hostile_modes[mode].once();
			/* What was hit is to be seen by somebody before it is hit again. */
			if (round % HOSTILE_BURST == 0)
				usleep_range(1000, 2000);
		}
		pr_notice("seed %u: %s is over\n", hostile_order.seed, hostile_modes[mode].name);
	}
	pr_notice("seed %u: all is over\n", hostile_order.seed);
	clear_bit(0, &hostile_busy);
	return 0;
}

static void hostile_start(struct work_struct *work)
{
	struct task_struct *task;

	if (hostile_task) {
		kthread_stop(hostile_task);
		put_task_struct(hostile_task);
		hostile_task = NULL;
	}
	task = kthread_create(hostile_thread, NULL, "hostile");
	if (IS_ERR(task)) {
		clear_bit(0, &hostile_busy);
		return;
	}
	hostile_task = get_task_struct(task);
	wake_up_process(task);
}
static DECLARE_WORK(hostile_work, hostile_start);

static void hostile_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
	if (!hostile_fabric || msg->src || msg->len != sizeof(hostile_order))
		return;
	if (test_and_set_bit(0, &hostile_busy))
		return;
	memcpy(&hostile_order, msg->data, sizeof(hostile_order));
	schedule_work(&hostile_work);
}

static struct pcn_service hostile_service = {
	.name = "test.hostile",
	.version = 1,
	.recv = hostile_recv,
};

static int hostile_parse(char *line, u32 *node, struct hostile_order *order)
{
	u32 *number[] = { node, &order->seed, &order->rounds };
	unsigned int i, nr = 0;
	char *word;

	for (i = 0; i < ARRAY_SIZE(number); i++) {
		word = strsep(&line, " \n");
		if (!word || kstrtou32(word, 0, number[i]))
			return -EINVAL;
	}
	while ((word = strsep(&line, " \n"))) {
		if (!*word)
			continue;
		for (i = 0; i < ARRAY_SIZE(hostile_modes) && strcmp(hostile_modes[i].name, word); i++)
			;
		if (i == ARRAY_SIZE(hostile_modes) || nr == HOSTILE_MODES)
			return -EINVAL;
		order->mode[nr++] = i + 1;
	}
	return nr ? 0 : -EINVAL;
}

static int hostile_tell(const char *text, const struct kernel_param *param)
{
	struct hostile_order order = {};
	char line[128];
	u32 node;
	int ret;

	if (strscpy(line, text, sizeof(line)) < 0)
		return -E2BIG;
	ret = hostile_parse(line, &node, &order);
	/* In its turn between all the traffic. */
	return ret ?: pcn_service_send_wait(&hostile_service, node, 0, &order, sizeof(order), HOSTILE_TELL_MS);
}

static const struct kernel_param_ops hostile_tell_ops = {
	.set = hostile_tell,
};
module_param_cb(tell, &hostile_tell_ops, NULL, 0200);
MODULE_PARM_DESC(tell, "Have a node go mad: NODE SEED ROUNDS MODE...");

/* A parameter that popcorn was loaded with. */
static int hostile_parameter(const char *name, unsigned long *value)
{
	char path[64], text[32] = {};
	struct file *file;
	loff_t pos = 0;
	ssize_t got;

	scnprintf(path, sizeof(path), "/sys/module/popcorn/parameters/%s", name);
	file = filp_open(path, O_RDONLY, 0);
	if (IS_ERR(file))
		return PTR_ERR(file);
	got = kernel_read(file, text, sizeof(text) - 1, &pos);
	filp_close(file, NULL);
	return got < 0 ? got : kstrtoul(strim(text), 0, value);
}

static int hostile_map(void)
{
	unsigned long phys, bytes;
	int ret = hostile_parameter("fabric", &phys);

	if (ret || !phys) /* none: this is the primary */
		return ret;
	ret = hostile_parameter("fabric_bytes", &bytes) ?: hostile_parameter("node", &hostile_node);
	if (ret)
		return ret;
	hostile_fabric = memremap(phys, bytes, MEMREMAP_WB);
	if (!hostile_fabric)
		return -ENOMEM;
	hostile_geometry = *hostile_fabric;
	pr_notice("node %lu has the fabric at %#lx and will do with it as it likes\n", hostile_node, phys);
	return 0;
}

static int __init hostile_init(void)
{
	int ret = hostile_map();

	if (ret)
		return ret;
	ret = pcn_service_register(&hostile_service);
	if (ret && hostile_fabric)
		memunmap(hostile_fabric);
	return ret;
}

static void __exit hostile_exit(void)
{
	pcn_service_unregister(&hostile_service);
	flush_work(&hostile_work);
	if (hostile_task) {
		kthread_stop(hostile_task);
		put_task_struct(hostile_task);
	}
	if (hostile_fabric)
		memunmap(hostile_fabric);
}

module_init(hostile_init);
module_exit(hostile_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: a kernel gone mad, for the tests");
