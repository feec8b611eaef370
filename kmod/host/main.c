// SPDX-License-Identifier: GPL-2.0
/*
 * popcorn_host: starts other kernels on CPUs and memory of this one.
 */
#include <linux/cpumask.h>
#include <linux/init.h>
#include <linux/math.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <asm/cpufeature.h>

#include "popcorn_host.h"
#include "cpu.h"
#include "device.h"
#include "kernel.h"
#include "memory.h"
#include "watch.h"

static unsigned int fabric_mb = 32;
module_param(fabric_mb, uint, 0444);
MODULE_PARM_DESC(fabric_mb, "size of the fabric's shared memory, MiB");

static struct pcn_memory pcn_fabric_memory;

static int __init pcn_main_make_fabric(void)
{
	struct pcn_memory_wish wish = {
		.name = "fabric",
		.backend = POPCORN_MEMORY_BACKEND_CONTIG,
		.bytes = round_up((u64)fabric_mb * SZ_1M, POPCORN_MEMORY_GRANULE),
		.nid = cpu_to_node(0),
	};
	int ret;

	if (wish.bytes < pcn_fabric_bytes_min()) {
		pr_err("fabric_mb=%u is too little: it takes %zu MiB\n", fabric_mb,
		       DIV_ROUND_UP(pcn_fabric_bytes_min(), SZ_1M));
		return -EINVAL;
	}
	ret = pcn_memory_lease(&pcn_fabric_memory, &wish, NULL);
	if (ret) {
		pr_err("no %llu MiB for the fabric (%d)\n", wish.bytes / SZ_1M, ret);
		return ret;
	}
	ret = pcn_fabric_create(pcn_fabric_memory.start, pcn_fabric_memory.bytes);
	if (ret) {
		pr_err("cannot make a fabric (%d)\n", ret);
		pcn_memory_release(&pcn_fabric_memory);
	}
	return ret;
}

static void pcn_main_drop_fabric(void)
{
	int ret = pcn_fabric_destroy();

	if (ret) {
		/* Somebody may still write to it: better lost than shared. */
		pr_err("the fabric is in use (%d); its memory is not given back\n", ret);
		return;
	}
	pcn_memory_scrub(&pcn_fabric_memory);
	pcn_memory_release(&pcn_fabric_memory);
}

static int __init pcn_main_init(void)
{
	int ret;

	if (!boot_cpu_has(X86_FEATURE_APIC)) {
		pr_err("this machine has no local APIC\n");
		return -ENODEV;
	}
	pcn_kernel_init();
	ret = pcn_cpu_init();
	if (ret)
		goto err_cpu;
	ret = pcn_main_make_fabric();
	if (ret)
		goto err_fabric;
	ret = pcn_device_init();
	if (ret)
		goto err_device;
	ret = pcn_watch_init();
	if (ret)
		goto err_watch;
	ret = pcn_host_register(&pcn_kernel_ops);
	if (ret)
		goto err_register;
	return 0;

err_register:
	pcn_watch_exit();
err_watch:
	pcn_device_exit();
err_device:
	pcn_main_drop_fabric();
err_fabric:
	pcn_cpu_exit();
err_cpu:
	return ret;
}

/* Every kernel that holds a lease holds the module, so there is none. */
static void __exit pcn_main_exit(void)
{
	pcn_host_unregister(&pcn_kernel_ops);
	pcn_watch_exit();
	pcn_device_exit();
	pcn_main_drop_fabric();
	pcn_cpu_exit();
}

module_init(pcn_main_init);
module_exit(pcn_main_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Popcorn: start other kernels beside this one");
