// SPDX-License-Identifier: GPL-2.0
/*
 * What is asked for: by whoever writes to /sys/kernel/debug/popcorn_stress/control here, or by a message from the
 * kernel where that happened. One line is one order, a verb and words KEY=VALUE; tests/lab/stress.py writes them.
 */
#include <linux/debugfs.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

#include "stress.h"

#define STRESS_NAME		"test.stress"
/* Twice what streams best: half as many doorbells for room. */
#define STRESS_RING_SLOTS	8192
#define STRESS_ASK_MS		30000
#define STRESS_LINE_BYTES	256

static unsigned int loopback;
module_param(loopback, uint, 0444);
MODULE_PARM_DESC(loopback, "Be so many nodes of this kernel (0: the one that it is)");

static unsigned int ring_slots = STRESS_RING_SLOTS;
module_param(ring_slots, uint, 0444);
MODULE_PARM_DESC(ring_slots, "Messages that its channels should hold");

struct workqueue_struct *stress_control_wq;

static struct stress_node *stress_nodes[POPCORN_NODES_MAX];
static u32 stress_nr_nodes;
static struct dentry *stress_dir;
static DEFINE_MUTEX(stress_mutex);	/* orders, and the start and end of streams */

/* What others told, by who told and of whom. */
static struct stress_report (*stress_reports)[POPCORN_NODES_MAX];
static bool stress_told[POPCORN_NODES_MAX];
static u32 stress_tellings[POPCORN_NODES_MAX];
static DEFINE_SPINLOCK(stress_report_lock);
static DECLARE_WAIT_QUEUE_HEAD(stress_report_wait);

/* Services that are there to fill the table. */
static struct pcn_service stress_filler[PCN_SHM_SERVICES + 1];
static char stress_filler_name[PCN_SHM_SERVICES + 1][PCN_SHM_SERVICE_BYTES];
static u32 stress_nr_fillers;

static const char *const stress_count_names[STRESS_COUNTS] = {
	"sent", "sent_bytes", "calls", "full", "starved", "errors", "error", "received", "received_bytes", "notes",
	"lost", "twice", "late", "damaged", "stale", "missent", "unasked", "ended", "ups", "downs", "disorder",
	"began", "done",
};

/**
 * struct stress_order - an order that came as a message
 * @work: carries it out
 * @node: whose
 * @src: who gave it
 * @kind: which
 * @flags: of the message
 * @spec: for STRESS_START
 */
struct stress_order {
	struct work_struct work;
	struct stress_node *node;
	u32 src;
	u8 kind;
	u8 flags;
	struct stress_spec spec;
};

static void stress_add(u64 *to, const u64 *from)
{
	enum stress_count i;

	for (i = 0; i < STRESS_COUNTS; i++) {
		if (i == STRESS_BEGAN || i == STRESS_DONE || i == STRESS_ERROR)
			to[i] = max(to[i], READ_ONCE(from[i]));
		else
			to[i] += READ_ONCE(from[i]);
	}
}

static void stress_sum_up(const struct stress_node *node, u32 id, struct stress_report *report)
{
	const struct stress_peer *peer = node->peer[id];
	u32 queue, sender;

	*report = (struct stress_report) {
		.node = stress_node_id(node),
		.peer = id,
		.up = READ_ONCE(peer->up),
		.running = stress_send_running(peer),
	};
	stress_add(report->count, peer->count);
	for (queue = 0; queue < STRESS_QUEUES; queue++) {
		stress_add(report->count, peer->rx[queue].count);
		for (sender = 0; sender < STRESS_SENDERS; sender++)
			stress_add(report->count, peer->tx[queue][sender].count);
	}
}

static void stress_reset(struct stress_node *node)
{
	u32 id, queue, sender;

	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		struct stress_peer *peer = node->peer[id];

		memset(peer->count, 0, sizeof(peer->count));
		for (queue = 0; queue < STRESS_QUEUES; queue++) {
			memset(peer->rx[queue].count, 0, sizeof(peer->rx[queue].count));
			for (sender = 0; sender < STRESS_SENDERS; sender++)
				memset(peer->tx[queue][sender].count, 0, sizeof(peer->tx[queue][sender].count));
		}
	}
}

static void stress_tell(struct stress_node *node, u32 dst)
{
	struct stress_report report;
	u32 id;

	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		stress_sum_up(node, id, &report);
		if (memchr_inv(report.count, 0, sizeof(report.count)) &&
		    stress_send_word(node, dst, STRESS_REPORT, 0, &report, sizeof(report)))
			return;
	}
	report = (struct stress_report) { .node = stress_node_id(node), .peer = POPCORN_NODES_MAX };
	stress_send_word(node, dst, STRESS_REPORT, 0, &report, sizeof(report));
}

static noinline void stress_hang_loop(void *unused)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static void stress_hang(void)
{
	smp_call_function(stress_hang_loop, NULL, 0);
	stress_hang_loop(NULL);
}

static void stress_order(struct work_struct *work)
{
	struct stress_order *order = container_of(work, struct stress_order, work);
	int ret;

	mutex_lock(&stress_mutex);
	switch (order->kind) {
	case STRESS_START:
		ret = stress_send_start(order->node, &order->spec);
		if (ret)
			pr_err("cannot start streams (%d)\n", ret);
		break;
	case STRESS_STOP:
		stress_send_stop(order->node);
		break;
	case STRESS_RESET:
		stress_reset(order->node);
		break;
	case STRESS_ASK:
		stress_tell(order->node, order->src);
		break;
	case STRESS_CRASH:
		if (order->flags == STRESS_HANG)
			stress_hang();
		panic("popcorn_stress: crashes because it was told to");
		break;
	}
	mutex_unlock(&stress_mutex);
	kfree(order);
}

static void stress_take_report(u32 src, const struct stress_report *report)
{
	spin_lock_bh(&stress_report_lock);
	if (report->peer < POPCORN_NODES_MAX) {
		stress_reports[src][report->peer] = *report;
	} else {
		stress_told[src] = true;
		stress_tellings[src]++;
		wake_up_all(&stress_report_wait);
	}
	spin_unlock_bh(&stress_report_lock);
}

/**
 * stress_control_take() - an order, or what was asked for, came as a message
 * @node: whose
 * @src: where it came from
 * @head: of the message
 * @rest: its content, not checked
 */
void stress_control_take(struct stress_node *node, u32 src, const struct stress_head *head, const void *rest)
{
	union {
		struct stress_report report;
		struct stress_spec spec;
	} content = {};
	u32 len = head->len - sizeof(*head);
	u32 want = head->kind == STRESS_REPORT ? sizeof(content.report) :
		   head->kind == STRESS_START ? sizeof(content.spec) : 0;
	struct stress_order *order;

	if (len != want || head->kind > STRESS_CRASH)
		return;
	memcpy(&content, rest, len);
	if (stress_payload_sum(&content, len) != head->seq)
		return;
	if (head->kind == STRESS_REPORT) {
		stress_take_report(src, &content.report);
		return;
	}
	if (head->kind == STRESS_CRASH && head->flags == STRESS_PANIC_HERE)
		panic("popcorn_stress: panics because it was told to");
	order = kmalloc(sizeof(*order), GFP_ATOMIC);
	if (!order)
		return;
	*order = (struct stress_order) {
		.node = node,
		.src = src,
		.kind = head->kind,
		.flags = head->flags,
		.spec = content.spec,
	};
	INIT_WORK(&order->work, stress_order);
	queue_work(stress_control_wq, &order->work);
}

static void stress_hello(struct work_struct *work)
{
	struct stress_peer *peer = container_of(work, struct stress_peer, hello);
	int ret = stress_send_word(peer->node, peer->id, STRESS_HELLO, READ_ONCE(peer->hello_flags), NULL, 0);

	if (ret == -EAGAIN && READ_ONCE(peer->up))
		queue_work(stress_control_wq, work);
}

/* Orders. */

/**
 * struct stress_words - what an order says
 * @from: nodes that it is for, bit by id
 * @node: one node
 * @nr: how many
 * @len: bytes
 * @queue: which
 * @how: of a crash
 * @spec: of streams
 */
struct stress_words {
	u32 from;
	u32 node;
	u32 nr;
	u32 len;
	u32 queue;
	u32 how;
	struct stress_spec spec;
};

static int stress_parse(char *line, struct stress_words *words)
{
	const struct {
		const char *key;
		u32 *value;
	} keys[] = {
		{ "from", &words->from }, { "node", &words->node }, { "nr", &words->nr }, { "len", &words->len },
		{ "queue", &words->queue }, { "how", &words->how }, { "to", &words->spec.to },
		{ "queues", &words->spec.queues }, { "senders", &words->spec.senders },
		{ "messages", &words->spec.messages }, { "in_slot", &words->spec.in_slot },
		{ "small", &words->spec.small }, { "max", &words->spec.max }, { "modes", &words->spec.modes },
		{ "pause_us", &words->spec.pause_us },
	};
	char *word, *value;
	unsigned int i;

	while ((word = strsep(&line, " \n"))) {
		if (!*word)
			continue;
		value = strchr(word, '=');
		if (!value)
			return -EINVAL;
		*value++ = '\0';
		for (i = 0; i < ARRAY_SIZE(keys) && strcmp(keys[i].key, word); i++)
			;
		if (i == ARRAY_SIZE(keys) || kstrtou32(value, 0, keys[i].value))
			return -EINVAL;
	}
	return 0;
}

static struct stress_node *stress_find(u32 id)
{
	u32 i;

	for (i = 0; i < stress_nr_nodes; i++)
		if (stress_node_id(stress_nodes[i]) == id)
			return stress_nodes[i];
	return NULL;
}

static int stress_here(struct stress_node *node, u8 kind, const struct stress_words *words)
{
	switch (kind) {
	case STRESS_START:
		return stress_send_start(node, &words->spec);
	case STRESS_STOP:
		stress_send_stop(node);
		return 0;
	case STRESS_RESET:
		stress_reset(node);
		return 0;
	default:
		return -EINVAL;
	}
}

/* An order for each node of a set: those of this kernel carry it out, the others are sent it. */
static int stress_each(u8 kind, const struct stress_words *words)
{
	const void *data = kind == STRESS_START ? &words->spec : NULL;
	u32 len = data ? sizeof(words->spec) : 0, id;
	int ret;

	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		struct stress_node *node = stress_find(id);

		if (!(words->from & BIT(id)))
			continue;
		if (node)
			ret = stress_here(node, kind, words);
		else
			ret = stress_send_word(stress_nodes[0], id, kind, words->how, data, len);
		if (ret)
			return ret;
	}
	return 0;
}

static int stress_ask(u32 from)
{
	u32 before, id;
	int ret;

	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		if (!(from & BIT(id)) || stress_find(id))
			continue;
		before = READ_ONCE(stress_tellings[id]);
		ret = stress_send_word(stress_nodes[0], id, STRESS_ASK, 0, NULL, 0);
		if (ret)
			return ret;
		ret = wait_event_interruptible_timeout(stress_report_wait,
						       READ_ONCE(stress_tellings[id]) != before,
						       msecs_to_jiffies(STRESS_ASK_MS));
		if (ret <= 0)
			return ret ?: -ETIMEDOUT;
	}
	return 0;
}

/* Single messages. Those of up to a slot's size take the shortest way. */
static int stress_note(const struct stress_words *words)
{
	struct stress_node *node = stress_nodes[0];
	int ret = 0;
	u32 i;

	for (i = 0; i < words->nr && !ret; i++)
		ret = stress_send_word(node, words->node, STRESS_NOTE, 0, NULL, words->len);
	return ret;
}

/* Whatever is asked for, right or wrong: what do the functions say of it? */
static int stress_try(const struct stress_words *words)
{
	struct pcn_service *service = &stress_nodes[0]->service;
	struct pcn_out out = { .len = words->len };
	struct pcn_body body;
	u64 answer[PCN_SHM_INLINE_BYTES / 8];
	void *data;
	int ret;

	data = kvzalloc(max_t(size_t, words->len, PCN_SHM_INLINE_BYTES), GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	out.data = data;
	switch (words->how) {
	case 0:
		ret = pcn_service_send(service, words->node, data, words->len);
		break;
	case 1:
		ret = pcn_service_send_wait(service, words->node, words->queue, data, words->len, 1000);
		break;
	case 2:
		ret = pcn_service_send_batch(service, words->node, words->queue, &out, 1);
		break;
	case 3:
		ret = pcn_service_reserve(service, words->node, words->queue, words->len, &body);
		if (!ret)
			pcn_service_release(service, &body);
		break;
	case 4:
		ret = pcn_service_call(service, words->node, words->queue, data, words->len, answer, 1000);
		break;
	case 5:
		ret = pcn_service_multicast(service, data, words->len, NULL);
		break;
	default:
		ret = -EINVAL;
	}
	kvfree(data);
	return ret;
}

static void stress_fill_recv(struct pcn_service *service, const struct pcn_msg *msg)
{
}

static int stress_fill(u32 nr)
{
	int ret = 0;

	while (stress_nr_fillers > nr)
		pcn_service_unregister(&stress_filler[--stress_nr_fillers]);
	while (stress_nr_fillers < nr && !ret) {
		struct pcn_service *filler;

		if (stress_nr_fillers == ARRAY_SIZE(stress_filler))
			return -EINVAL;
		filler = &stress_filler[stress_nr_fillers];
		scnprintf(stress_filler_name[stress_nr_fillers], PCN_SHM_SERVICE_BYTES, "test.fill%u",
			  stress_nr_fillers);
		*filler = (struct pcn_service) {
			.name = stress_filler_name[stress_nr_fillers],
			.version = 1,
			.recv = stress_fill_recv,
		};
		ret = pcn_service_register(filler);
		stress_nr_fillers += !ret;
	}
	return ret;
}

static int stress_obey(const char *verb, struct stress_words *words)
{
	if (!strcmp(verb, "start")) {
		words->spec.run = get_random_u32() | 1;
		return stress_each(STRESS_START, words);
	}
	if (!strcmp(verb, "stop"))
		return stress_each(STRESS_STOP, words);
	if (!strcmp(verb, "reset"))
		return stress_each(STRESS_RESET, words);
	if (!strcmp(verb, "crash"))
		return stress_each(STRESS_CRASH, words);
	if (!strcmp(verb, "ask"))
		return stress_ask(words->from);
	if (!strcmp(verb, "note"))
		return stress_note(words);
	if (!strcmp(verb, "try"))
		return stress_try(words);
	if (!strcmp(verb, "fill"))
		return stress_fill(words->nr);
	return -EINVAL;
}

static ssize_t stress_control_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	struct stress_words words = {
		.nr = 1,
		.spec = {
			.queues = 1,
			.senders = 1,
			.in_slot = 900,
			.small = 95,
			.max = STRESS_BYTES,
			.modes = STRESS_MODE_WAIT | STRESS_MODE_AGAIN | STRESS_MODE_BATCH,
		},
	};
	char line[STRESS_LINE_BYTES], *rest = line, *verb;
	int ret;

	if (len >= sizeof(line))
		return -E2BIG;
	if (copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = '\0';
	verb = strsep(&rest, " \n");
	ret = stress_parse(rest, &words);
	if (ret)
		return ret;
	mutex_lock(&stress_mutex);
	ret = stress_obey(verb, &words);
	mutex_unlock(&stress_mutex);
	return ret < 0 ? ret : len;
}

static const struct file_operations stress_control_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = stress_control_write,
};

static void stress_show(struct seq_file *seq, const struct stress_report *report)
{
	enum stress_count i;

	seq_printf(seq, "node=%u peer=%u up=%u running=%u", report->node, report->peer, report->up, report->running);
	for (i = 0; i < STRESS_COUNTS; i++)
		seq_printf(seq, " %s=%lld", stress_count_names[i], (s64)report->count[i]);
	seq_putc(seq, '\n');
}

static int stress_report_show(struct seq_file *seq, void *unused)
{
	struct stress_report report;
	u32 i, id;

	for (i = 0; i < stress_nr_nodes; i++) {
		for (id = 0; id < POPCORN_NODES_MAX; id++) {
			stress_sum_up(stress_nodes[i], id, &report);
			if (memchr_inv(report.count, 0, sizeof(report.count)))
				stress_show(seq, &report);
		}
	}
	for (i = 0; i < POPCORN_NODES_MAX; i++) {
		for (id = 0; id < POPCORN_NODES_MAX; id++) {
			spin_lock_bh(&stress_report_lock);
			report = stress_reports[i][id];
			spin_unlock_bh(&stress_report_lock);
			if (stress_told[i] && memchr_inv(report.count, 0, sizeof(report.count)))
				stress_show(seq, &report);
		}
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(stress_report);

static void stress_free(struct stress_node *node)
{
	u32 id;

	for (id = 0; id < POPCORN_NODES_MAX; id++)
		kvfree(node->peer[id]);
	kfree(node);
}

static struct stress_node *stress_alloc(void)
{
	struct stress_node *node = kzalloc(sizeof(*node), GFP_KERNEL);
	u32 id, i;

	if (!node)
		return NULL;
	node->incarnation = get_random_u32() | 1;
	init_waitqueue_head(&node->wait);
	node->service = (struct pcn_service) {
		.name = STRESS_NAME,
		.version = 1,
		.ring_slots = ring_slots,
		.recv = stress_receive,
		.peer_up = stress_receive_up,
		.peer_down = stress_receive_down,
		.room = stress_receive_room,
	};
	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		struct stress_peer *peer = kvzalloc(sizeof(*peer), GFP_KERNEL);

		if (!peer) {
			stress_free(node);
			return NULL;
		}
		peer->node = node;
		peer->id = id;
		spin_lock_init(&peer->lock);
		INIT_WORK(&peer->hello, stress_hello);
		for (i = 0; i < STRESS_QUEUES * STRESS_SENDERS; i++)
			peer->tx[i / STRESS_SENDERS][i % STRESS_SENDERS] = (struct stress_tx) {
				.peer = peer,
				.queue = i / STRESS_SENDERS,
				.sender = i % STRESS_SENDERS,
			};
		node->peer[id] = peer;
	}
	return node;
}

static int stress_add_node(u32 id)
{
	struct stress_node *node = stress_alloc();
	int ret;

	if (!node)
		return -ENOMEM;
	ret = loopback ? pcn_service_register_at(&node->service, id) : pcn_service_register(&node->service);
	if (ret) {
		flush_workqueue(stress_control_wq);
		stress_free(node);
		return ret;
	}
	stress_nodes[stress_nr_nodes++] = node;
	return 0;
}

static void stress_end(void)
{
	u32 i;

	debugfs_remove(stress_dir);
	mutex_lock(&stress_mutex);
	for (i = 0; i < stress_nr_nodes; i++)
		stress_send_stop(stress_nodes[i]);
	stress_fill(0);
	mutex_unlock(&stress_mutex);
	for (i = 0; i < stress_nr_nodes; i++)
		pcn_service_unregister(&stress_nodes[i]->service);
	/* Nothing is queued any more, but an order that was may have started streams. */
	flush_workqueue(stress_control_wq);
	for (i = 0; i < stress_nr_nodes; i++)
		stress_send_stop(stress_nodes[i]);
	destroy_workqueue(stress_control_wq);
	for (i = 0; i < stress_nr_nodes; i++)
		stress_free(stress_nodes[i]);
	kvfree(stress_reports);
}

static int __init stress_init(void)
{
	u32 id;
	int ret;

	if (loopback > POPCORN_NODES_MAX)
		return -EINVAL;
	stress_reports = kvcalloc(POPCORN_NODES_MAX, sizeof(*stress_reports), GFP_KERNEL);
	if (!stress_reports)
		return -ENOMEM;
	/* Orders of several peers may wait for room at the same time. */
	stress_control_wq = alloc_workqueue("popcorn_stress", WQ_UNBOUND, 0);
	if (!stress_control_wq) {
		kvfree(stress_reports);
		return -ENOMEM;
	}
	stress_dir = debugfs_create_dir("popcorn_stress", NULL);
	for (id = 0; id < max(loopback, 1u); id++) {
		ret = stress_add_node(id);
		if (ret) {
			pr_err("cannot be node %u (%d)\n", id, ret);
			stress_end();
			return ret;
		}
	}
	debugfs_create_file("control", 0200, stress_dir, NULL, &stress_control_fops);
	debugfs_create_file("report", 0400, stress_dir, NULL, &stress_report_fops);
	return 0;
}

module_init(stress_init);
module_exit(stress_end);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: streams of messages for the tests");
