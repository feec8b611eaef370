// SPDX-License-Identifier: GPL-2.0
/*
 * Class popcorn: a device for each node that is not absent. What udev sees.
 */
#include <linux/device.h>
#include <linux/kobject.h>
#include <linux/sysfs.h>

#include "node.h"
#include "sysfs.h"

static struct class *pcn_sysfs_class;

static const char *const pcn_sysfs_states[] = {
	[POPCORN_NODE_STATE_ABSENT] = "absent",
	[POPCORN_NODE_STATE_EXPECTED] = "expected",
	[POPCORN_NODE_STATE_UP] = "up",
	[POPCORN_NODE_STATE_LEFT] = "left",
	[POPCORN_NODE_STATE_STOPPED] = "stopped",
	[POPCORN_NODE_STATE_CRASHED] = "crashed",
	[POPCORN_NODE_STATE_JOINING] = "joining",
	[POPCORN_NODE_STATE_HUNG] = "hung",
};

static ssize_t name_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_node *node = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", node->name);
}
static DEVICE_ATTR_RO(name);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_node *node = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%s\n", pcn_sysfs_states[READ_ONCE(node->state)]);
}
static DEVICE_ATTR_RO(state);

static ssize_t epoch_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_node *node = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", READ_ONCE(node->epoch));
}
static DEVICE_ATTR_RO(epoch);

static ssize_t release_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct pcn_node *node = dev_get_drvdata(dev);
	char release[PCN_SHM_RELEASE_BYTES] = "";

	/* The device goes before the fabric does, and its removal waits for readers. */
	pcn_node_copy_text(release, sizeof(release), pcn_fabric_node(node->id)->release,
			   PCN_SHM_RELEASE_BYTES);
	return sysfs_emit(buf, "%s\n", release);
}
static DEVICE_ATTR_RO(release);

static struct attribute *pcn_sysfs_attrs[] = {
	&dev_attr_name.attr,
	&dev_attr_state.attr,
	&dev_attr_epoch.attr,
	&dev_attr_release.attr,
	NULL,
};
ATTRIBUTE_GROUPS(pcn_sysfs);

/**
 * pcn_sysfs_update() - make sysfs tell what a node is now, and udev hear of it
 * @node: the node; the caller holds pcn_node_mutex
 */
void pcn_sysfs_update(struct pcn_node *node)
{
	char id[24], name[16 + PCN_SHM_NAME_BYTES], state[32];
	char *envp[] = { id, name, state, NULL };

	if (!node->dev && node->state != POPCORN_NODE_STATE_ABSENT) {
		node->dev = device_create_with_groups(pcn_sysfs_class, NULL, MKDEV(0, 0), node,
						      pcn_sysfs_groups, "node%u", node->id);
		if (IS_ERR(node->dev)) {
			pr_warn("node %u is not in sysfs: %ld\n", node->id, PTR_ERR(node->dev));
			node->dev = NULL;
		}
	}
	if (!node->dev)
		return;
	scnprintf(id, sizeof(id), "POPCORN_NODE=%u", node->id);
	scnprintf(name, sizeof(name), "POPCORN_NAME=%s", node->name);
	scnprintf(state, sizeof(state), "POPCORN_STATE=%s", pcn_sysfs_states[node->state]);
	kobject_uevent_env(&node->dev->kobj, KOBJ_CHANGE, envp);
	if (node->state == POPCORN_NODE_STATE_ABSENT) {
		device_unregister(node->dev);
		node->dev = NULL;
	}
}

int pcn_sysfs_init(void)
{
	pcn_sysfs_class = pcn_class_create("popcorn");
	return PTR_ERR_OR_ZERO(pcn_sysfs_class);
}

void pcn_sysfs_exit(void)
{
	class_destroy(pcn_sysfs_class);
}
