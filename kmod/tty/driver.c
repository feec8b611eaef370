// SPDX-License-Identifier: GPL-2.0
/*
 * The tty driver: /dev/ttyPCN*, eight lines to each node. Line L to node N is ttyPCN(8 N + L), so what a
 * secondary calls ttyPCN0 is line 0 to the primary.
 */
#include <linux/module.h>
#include <linux/serial.h>
#include <linux/sysfs.h>
#include <linux/tty_flip.h>

#include "tty.h"

#define PCN_TTY_FLIP_BYTES	(32 << 10)	/* that the tty layer holds before its line discipline */
#define PCN_TTY_NODES		2		/* nodes of this kernel: its own, and one for loopback */

static struct tty_driver *pcn_driver;
static struct pcn_tty_node *pcn_nodes[PCN_TTY_NODES];
static struct tty_port_client_operations pcn_tty_client_ops;

static struct pcn_tty_line *pcn_tty_line_of(const struct tty_struct *tty)
{
	return container_of(tty->port, struct pcn_tty_line, port);
}

static u32 pcn_tty_line_minor(const struct pcn_tty_line *line)
{
	return line->peer->node->base + line->peer->id * PCN_TTY_LINES + line->nr;
}

static struct pcn_tty_line *pcn_tty_find_line(u32 minor)
{
	struct pcn_tty_node *node = pcn_nodes[minor / PCN_TTY_NODE_MINORS];
	u32 at = minor % PCN_TTY_NODE_MINORS;

	return node ? &node->peer[at / PCN_TTY_LINES].line[at % PCN_TTY_LINES] : NULL;
}

static int pcn_tty_install(struct tty_driver *driver, struct tty_struct *tty)
{
	struct pcn_tty_line *line = pcn_tty_find_line(tty->index);
	bool first = !driver->termios[tty->index];
	int ret;

	if (!line || !READ_ONCE(line->peer->up))
		return -ENXIO;
	ret = tty_port_install(&line->port, driver, tty);
	if (ret)
		return ret;
	if (first && pcn_tty_line_is_terminal(line)) {
		/* Two ends that echo would never stop. */
		tty->termios.c_iflag = 0;
		tty->termios.c_oflag = 0;
		tty->termios.c_lflag = 0;
	}
	tty->winsize = line->size;
	set_bit(TTY_NO_WRITE_SPLIT, &tty->flags);
	return 0;
}

static int pcn_tty_open(struct tty_struct *tty, struct file *file)
{
	return tty_port_open(tty->port, tty, file);
}

static void pcn_tty_close(struct tty_struct *tty, struct file *file)
{
	tty_port_close(tty->port, tty, file);
}

static void pcn_tty_hangup(struct tty_struct *tty)
{
	tty_port_hangup(tty->port);
}

static pcn_tty_ssize pcn_tty_write(struct tty_struct *tty, const unsigned char *data, pcn_tty_size len)
{
	struct pcn_tty_line *line = pcn_tty_line_of(tty);

	if (!READ_ONCE(line->peer->up))
		return -EIO;
	return pcn_tty_line_write(line, data, len);
}

static unsigned int pcn_tty_write_room(struct tty_struct *tty)
{
	return pcn_tty_ring_room(&pcn_tty_line_of(tty)->tx);
}

static unsigned int pcn_tty_chars_in_buffer(struct tty_struct *tty)
{
	return pcn_tty_ring_len(&pcn_tty_line_of(tty)->tx);
}

static void pcn_tty_flush_buffer(struct tty_struct *tty)
{
	pcn_tty_line_discard(pcn_tty_line_of(tty));
}

static void pcn_tty_wait_until_sent(struct tty_struct *tty, int timeout)
{
	pcn_tty_line_drain(pcn_tty_line_of(tty), timeout > 0 ? timeout : MAX_SCHEDULE_TIMEOUT);
}

static void pcn_tty_throttle(struct tty_struct *tty)
{
	pcn_tty_line_throttle(pcn_tty_line_of(tty), true);
}

static void pcn_tty_unthrottle(struct tty_struct *tty)
{
	pcn_tty_line_throttle(pcn_tty_line_of(tty), false);
}

static void pcn_tty_stop(struct tty_struct *tty)
{
	pcn_tty_line_stop(pcn_tty_line_of(tty), true);
}

static void pcn_tty_start(struct tty_struct *tty)
{
	pcn_tty_line_stop(pcn_tty_line_of(tty), false);
}

/* There are no bits on a wire: all sizes and rates are as good. B0 hangs up, as everywhere. */
static void pcn_tty_set_termios(struct tty_struct *tty, const struct ktermios *old)
{
	struct pcn_tty_line *line = pcn_tty_line_of(tty);

	if (!old)
		return;
	if (!C_BAUD(tty) && old->c_cflag & CBAUD)
		pcn_tty_line_raise(line, false);
	else if (C_BAUD(tty) && !(old->c_cflag & CBAUD))
		pcn_tty_line_raise(line, true);
}

static int pcn_tty_break_ctl(struct tty_struct *tty, int state)
{
	if (state)
		pcn_tty_line_say(pcn_tty_line_of(tty), PCN_TTY_BREAK);
	return 0;
}

static int pcn_tty_tiocmget(struct tty_struct *tty)
{
	struct pcn_tty_line *line = pcn_tty_line_of(tty);

	return (READ_ONCE(line->dtr) ? TIOCM_DTR | TIOCM_RTS : 0) |
	       (READ_ONCE(line->carrier) ? TIOCM_CAR | TIOCM_DSR | TIOCM_CTS : 0);
}

static int pcn_tty_tiocmset(struct tty_struct *tty, unsigned int set, unsigned int clear)
{
	struct pcn_tty_line *line = pcn_tty_line_of(tty);

	if (set & TIOCM_DTR && !line->dtr)
		pcn_tty_line_raise(line, true);
	else if (clear & TIOCM_DTR && line->dtr)
		pcn_tty_line_raise(line, false);
	return 0;
}

static int pcn_tty_resize(struct tty_struct *tty, struct winsize *size)
{
	struct pcn_tty_line *line = pcn_tty_line_of(tty);

	spin_lock_irq(&line->rx_lock);
	line->size = *size;
	spin_unlock_irq(&line->rx_lock);
	pcn_tty_line_say(line, PCN_TTY_SIZE);
	return tty_do_resize(tty, size);
}

static int pcn_tty_get_icount(struct tty_struct *tty, struct serial_icounter_struct *count)
{
	struct pcn_tty_line *line = pcn_tty_line_of(tty);

	count->tx = line->nr_tx;
	count->rx = line->nr_rx;
	count->brk = line->nr_breaks;
	return 0;
}

static const struct tty_operations pcn_tty_ops = {
	.install = pcn_tty_install,
	.open = pcn_tty_open,
	.close = pcn_tty_close,
	.hangup = pcn_tty_hangup,
	.write = pcn_tty_write,
	.write_room = pcn_tty_write_room,
	.chars_in_buffer = pcn_tty_chars_in_buffer,
	.flush_buffer = pcn_tty_flush_buffer,
	.wait_until_sent = pcn_tty_wait_until_sent,
	.throttle = pcn_tty_throttle,
	.unthrottle = pcn_tty_unthrottle,
	.stop = pcn_tty_stop,
	.start = pcn_tty_start,
	.set_termios = pcn_tty_set_termios,
	.break_ctl = pcn_tty_break_ctl,
	.tiocmget = pcn_tty_tiocmget,
	.tiocmset = pcn_tty_tiocmset,
	.resize = pcn_tty_resize,
	.get_icount = pcn_tty_get_icount,
};

static int pcn_tty_activate(struct tty_port *port, struct tty_struct *tty)
{
	struct pcn_tty_line *line = container_of(port, struct pcn_tty_line, port);
	int ret;

	if (!READ_ONCE(line->peer->up))
		return -ENXIO;
	ret = pcn_tty_line_prepare(line);
	if (!ret)
		pcn_tty_line_open(line);
	return ret;
}

static void pcn_tty_shutdown(struct tty_port *port)
{
	pcn_tty_line_close(container_of(port, struct pcn_tty_line, port));
}

static pcn_tty_bool pcn_tty_carrier_raised(struct tty_port *port)
{
	return READ_ONCE(container_of(port, struct pcn_tty_line, port)->carrier);
}

static void pcn_tty_dtr_rts(struct tty_port *port, pcn_tty_bool on)
{
	pcn_tty_line_raise(container_of(port, struct pcn_tty_line, port), on);
}

static const struct tty_port_operations pcn_tty_port_ops = {
	.activate = pcn_tty_activate,
	.shutdown = pcn_tty_shutdown,
	.carrier_raised = pcn_tty_carrier_raised,
	.dtr_rts = pcn_tty_dtr_rts,
};

/* The tty layer hands its buffer to the line discipline: there is room in it for more. */
static pcn_tty_received pcn_tty_receive_buf(struct tty_port *port, const unsigned char *data,
					    const unsigned char *flags, size_t len)
{
	pcn_tty_received done = tty_port_default_client_ops.receive_buf(port, data, flags, len);

	if (done)
		pcn_tty_line_feed(container_of(port, struct pcn_tty_line, port));
	return done;
}

static ssize_t node_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_tty_line *line = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", line->peer->id);
}
static DEVICE_ATTR_RO(node);

static ssize_t name_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_tty_line *line = dev_get_drvdata(dev);
	char name[PCN_SHM_NAME_BYTES] = "";

	pcn_service_node_name(&line->peer->node->service, line->peer->id, name, sizeof(name));
	return sysfs_emit(buf, "%s\n", name);
}
static DEVICE_ATTR_RO(name);

static ssize_t number_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_tty_line *line = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", line->nr);
}
static DEVICE_ATTR_RO(number);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_tty_line *line = dev_get_drvdata(dev);

	if (!READ_ONCE(line->peer->up))
		return sysfs_emit(buf, "down\n");
	return sysfs_emit(buf, READ_ONCE(line->carrier) ? "open\n" : "closed\n");
}
static DEVICE_ATTR_RO(state);

static ssize_t errors_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_tty_line *line = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(line->nr_bad));
}
static DEVICE_ATTR_RO(errors);

static struct attribute *pcn_tty_attrs[] = {
	&dev_attr_node.attr,
	&dev_attr_name.attr,
	&dev_attr_number.attr,
	&dev_attr_state.attr,
	&dev_attr_errors.attr,
	NULL,
};

static const struct attribute_group pcn_tty_group = {
	.name = "popcorn",
	.attrs = pcn_tty_attrs,
};

static const struct attribute_group *pcn_tty_groups[] = {
	&pcn_tty_group,
	NULL,
};

/**
 * pcn_tty_driver() - the driver, for the console
 */
struct tty_driver *pcn_tty_driver(void)
{
	return pcn_driver;
}

/**
 * pcn_tty_driver_own() - the lines of a node belong to this driver
 * @node: the node, with its lines set up
 */
void pcn_tty_driver_own(struct pcn_tty_node *node)
{
	u32 id, i;

	for (id = 0; id < POPCORN_NODES_MAX; id++) {
		for (i = 0; i < PCN_TTY_LINES; i++) {
			struct tty_port *port = &node->peer[id].line[i].port;

			tty_port_init(port);
			port->ops = &pcn_tty_port_ops;
			port->client_ops = &pcn_tty_client_ops;
			tty_buffer_set_limit(port, PCN_TTY_FLIP_BYTES);
		}
	}
	pcn_nodes[node->base / PCN_TTY_NODE_MINORS] = node;
}

/**
 * pcn_tty_driver_disown() - undo it
 * @node: the node, with no device left
 */
void pcn_tty_driver_disown(struct pcn_tty_node *node)
{
	u32 id, i;

	pcn_nodes[node->base / PCN_TTY_NODE_MINORS] = NULL;
	for (id = 0; id < POPCORN_NODES_MAX; id++)
		for (i = 0; i < PCN_TTY_LINES; i++)
			tty_port_destroy(&node->peer[id].line[i].port);
}

/**
 * pcn_tty_driver_add() - give a line a device
 * @line: the line, without one
 *
 * Return: 0 or a negative errno.
 */
int pcn_tty_driver_add(struct pcn_tty_line *line)
{
	struct device *dev;

	dev = tty_port_register_device_attr(&line->port, pcn_driver, pcn_tty_line_minor(line), NULL, line,
					    pcn_tty_groups);
	if (IS_ERR(dev)) {
		pr_warn("line %u to node %u has no device (%ld)\n", line->nr, line->peer->id, PTR_ERR(dev));
		return PTR_ERR(dev);
	}
	line->dev = dev;
	return 0;
}

/**
 * pcn_tty_driver_remove() - take a line's device away
 * @line: the line
 */
void pcn_tty_driver_remove(struct pcn_tty_line *line)
{
	if (line->dev)
		tty_unregister_device(pcn_driver, pcn_tty_line_minor(line));
	line->dev = NULL;
}

/**
 * pcn_tty_driver_init() - register the driver, without lines
 *
 * Return: 0 or a negative errno.
 */
int pcn_tty_driver_init(void)
{
	struct tty_driver *driver;
	int ret;

	pcn_tty_client_ops = tty_port_default_client_ops;
	pcn_tty_client_ops.receive_buf = pcn_tty_receive_buf;

	driver = tty_alloc_driver(PCN_TTY_NODES * PCN_TTY_NODE_MINORS,
				  TTY_DRIVER_REAL_RAW | TTY_DRIVER_DYNAMIC_DEV);
	if (IS_ERR(driver))
		return PTR_ERR(driver);
	driver->driver_name = "popcorn";
	driver->name = "ttyPCN";
	driver->type = TTY_DRIVER_TYPE_SERIAL;
	driver->subtype = SERIAL_TYPE_NORMAL;
	driver->init_termios = tty_std_termios;
	/* A shell stays when who looked on leaves; `stty -clocal` for one that does not. */
	driver->init_termios.c_cflag = B38400 | CS8 | CREAD | HUPCL | CLOCAL;
	tty_set_operations(driver, &pcn_tty_ops);
	ret = tty_register_driver(driver);
	if (ret) {
		tty_driver_kref_put(driver);
		return ret;
	}
	pcn_driver = driver;
	return 0;
}

/**
 * pcn_tty_driver_exit() - undo it; there are no lines any more
 */
void pcn_tty_driver_exit(void)
{
	tty_unregister_driver(pcn_driver);
	tty_driver_kref_put(pcn_driver);
}
