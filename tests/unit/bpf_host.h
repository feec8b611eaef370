/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stand-ins for bcc's macros, to build a BPF program of tracing/ as one of this machine, which has one CPU.
 * Events come from standard input: the name of a tracepoint and its arguments, as many as TRACEPOINT() says.
 */
#ifndef BPF_HOST_H
#define BPF_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint32_t u32;
typedef uint64_t u64;

struct context {
	u64 args[12];
};

#define BPF_TABLE(kind, key_t, leaf_t, name, n)						\
	static struct {									\
		key_t keys[n];								\
		leaf_t leaves[n];							\
		int used;								\
	} name##_map;									\
	static leaf_t *name##_lookup(key_t *key)					\
	{										\
		for (int i = 0; i < name##_map.used; i++)				\
			if (!memcmp(&name##_map.keys[i], key, sizeof(*key)))		\
				return &name##_map.leaves[i];				\
		return NULL;								\
	}										\
	static leaf_t *name##_init(key_t *key, leaf_t *first)				\
	{										\
		leaf_t *found = name##_lookup(key);					\
											\
		if (found || name##_map.used == n)					\
			return found;							\
		name##_map.keys[name##_map.used] = *key;				\
		name##_map.leaves[name##_map.used] = *first;				\
		return &name##_map.leaves[name##_map.used++];				\
	}										\
	static struct {									\
		leaf_t *(*lookup)(key_t *);						\
		leaf_t *(*lookup_or_try_init)(key_t *, leaf_t *);			\
	} name = { name##_lookup, name##_init }

#define BPF_PERCPU_ARRAY(name, type, n)							\
	static type name##_map[n];							\
	static type *name##_lookup(int *index)						\
	{										\
		return &name##_map[*index];						\
	}										\
	static struct {									\
		type *(*lookup)(int *);							\
	} name = { name##_lookup }

#define BPF_ARRAY BPF_PERCPU_ARRAY

/* A buffer of ROOM records, written to standard output in hexadecimal. */
#define BPF_RINGBUF_OUTPUT(name, pages)							\
	static int name##_output(void *data, u64 size, u64 flags)			\
	{										\
		static int written;							\
											\
		if (written++ >= ROOM)							\
			return -1;							\
		for (u64 i = 0; i < size; i++)						\
			printf("%02x", ((unsigned char *)data)[i]);			\
		printf("\n");								\
		return 0;								\
	}										\
	static struct {									\
		int (*ringbuf_output)(void *, u64, u64);				\
	} name = { name##_output }

#ifndef ROOM
#define ROOM 1000
#endif

#define PROBE(event) static int event(struct context *ctx)
#define bpf_get_smp_processor_id() 3

/* Runs the event that was read if it is that one. */
#define TRACEPOINT(event) do { if (!strcmp(name, #event)) event(&context); } while (0)

/* The name of an event and twelve arguments. */
static bool next_event(char name[64], struct context *context)
{
	if (scanf(" %63s", name) != 1)
		return false;
	for (int i = 0; i < 12; i++)
		if (scanf("%lu", &context->args[i]) != 1)
			return false;
	return true;
}

#endif
