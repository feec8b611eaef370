// SPDX-License-Identifier: GPL-2.0
/*
 * What a kernel is asked for with: judged before anything is taken, and without looking at what there is.
 */
#include <linux/align.h>
#include <linux/sizes.h>
#include <linux/string.h>

#include "popcorn_host.h"
#include "request.h"

#define PCN_REQUEST_MEMORY_MIN	SZ_32M

/* Not isalpha() and the like: the kernel's ones know Latin-1. */
static bool pcn_request_is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool pcn_request_name_fits(const char *name)
{
	size_t i;

	if (!pcn_request_is_letter(name[0]))
		return false;
	for (i = 0; name[i]; i++)
		if (!pcn_request_is_letter(name[i]) && !(name[i] >= '0' && name[i] <= '9') &&
		    !strchr("._-", name[i]))
			return false;
	return i <= POPCORN_NAME_MAX;
}

/**
 * pcn_request_check() - is what is asked for a kernel in itself sensible
 * @req: a kernel-new request
 * @extack: told why not
 *
 * Return: 0 or -EINVAL.
 */
int pcn_request_check(const struct pcn_kernel_request *req, struct netlink_ext_ack *extack)
{
	if (!pcn_request_name_fits(req->name)) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_NAME],
			      "a name is a letter, then letters, digits, '.', '_' or '-', %u at most",
			      POPCORN_NAME_MAX);
		return -EINVAL;
	}
	if (!req->memory_size) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_MEMORY_SIZE], "memory size is zero");
		return -EINVAL;
	}
	if (!IS_ALIGNED(req->memory_size, POPCORN_MEMORY_GRANULE)) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_MEMORY_SIZE],
			      "memory size %llu is not a multiple of %u MiB", req->memory_size,
			      POPCORN_MEMORY_GRANULE / SZ_1M);
		return -EINVAL;
	}
	if (req->memory_size < PCN_REQUEST_MEMORY_MIN) {
		pcn_nl_refuse(extack, req->attrs[POPCORN_A_KERNEL_MEMORY_SIZE],
			      "%llu MiB are too little, a kernel takes %u at least",
			      req->memory_size / SZ_1M, PCN_REQUEST_MEMORY_MIN / SZ_1M);
		return -EINVAL;
	}
	return 0;
}
