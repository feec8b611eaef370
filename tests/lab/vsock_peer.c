// SPDX-License-Identifier: GPL-2.0
/*
 * The secondary's side of test_vsock.py: services on fixed ports, a process for each connection. Static, so
 * that it is all the image needs.
 */
#include <err.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum {
	PORT_ECHO = 5000,	/* gives back what comes */
	PORT_RECORDS,		/* likewise, record by record */
	PORT_SINK,		/* reads to the end, then tells the count (8 bytes) and the CRC (4) */
	PORT_SOURCE,		/* reads a count (8), sends as many bytes and then their CRC (4) */
	PORT_LAZY,		/* a sink that does not read before somebody connects to the gate */
	PORT_GATE,
	PORT_CALL,		/* reads a type and a port (4 each), connects there, gives back what comes */
	PORT_HOG,		/* reads a number of seconds (4), and lets nobody else run for so long */
	PORTS_END,
};

static char buffer[1 << 18];
static int gate;

static uint32_t crc32(uint32_t crc, const void *data, size_t len)
{
	static uint32_t table[256];
	const uint8_t *byte = data;

	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			table[i] = i;
			for (int bit = 0; bit < 8; bit++)
				table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
		}
	for (crc = ~crc; len; len--)
		crc = crc >> 8 ^ table[(crc ^ *byte++) & 0xff];
	return ~crc;
}

static void give(int fd, const void *data, size_t len)
{
	while (len) {
		ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

		if (n < 0)
			err(1, "send");
		data += n;
		len -= n;
	}
}

static void take(int fd, void *data, size_t len)
{
	if (recv(fd, data, len, MSG_WAITALL) != (ssize_t)len)
		err(1, "recv");
}

static void echo(int fd)
{
	ssize_t n;

	/* One send for each recv: where records end, stays. */
	while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0)
		give(fd, buffer, n);
}

static void sink(int fd)
{
	struct {
		uint64_t count;
		uint32_t crc;
	} __attribute__((packed)) sum = {};
	ssize_t n;

	while ((n = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
		sum.count += n;
		sum.crc = crc32(sum.crc, buffer, n);
	}
	if (n < 0)
		err(1, "recv");
	give(fd, &sum, sizeof(sum));
}

static void source(int fd)
{
	uint64_t count, word = 88172645463325252;
	uint32_t crc = 0;

	take(fd, &count, sizeof(count));
	while (count) {
		size_t len = count < sizeof(buffer) ? count : sizeof(buffer);

		for (size_t i = 0; i < sizeof(buffer); i += sizeof(word)) {
			word ^= word << 13;
			word ^= word >> 7;
			word ^= word << 17;
			*(uint64_t *)(buffer + i) = word;
		}
		crc = crc32(crc, buffer, len);
		give(fd, buffer, len);
		count -= len;
	}
	give(fd, &crc, sizeof(crc));
}

static void call(int fd)
{
	uint32_t how[2];
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };
	int out;

	take(fd, how, sizeof(how));
	to.svm_port = how[1];
	out = socket(AF_VSOCK, how[0], 0);
	if (out < 0 || connect(out, (struct sockaddr *)&to, sizeof(to)))
		err(1, "connect");
	echo(out);
}

static void hog(int fd)
{
	struct sched_param param = { .sched_priority = 99 };
	int limit = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY);
	uint32_t seconds;
	time_t end;

	take(fd, &seconds, sizeof(seconds));
	if (write(limit, "-1", 2) != 2 || sched_setscheduler(0, SCHED_FIFO, &param))
		err(1, "hog");
	for (end = time(NULL) + seconds; time(NULL) < end;)
		;
}

static void serve(int port, int fd)
{
	switch (port) {
	case PORT_ECHO:
	case PORT_RECORDS:
		echo(fd);
		break;
	case PORT_LAZY:
		if (accept(gate, NULL, NULL) < 0)
			err(1, "accept");
		/* fall through */
	case PORT_SINK:
		sink(fd);
		break;
	case PORT_SOURCE:
		source(fd);
		break;
	case PORT_CALL:
		call(fd);
		break;
	case PORT_HOG:
		hog(fd);
		break;
	}
}

static int listen_at(int port)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int fd = socket(AF_VSOCK, port == PORT_RECORDS ? SOCK_SEQPACKET : SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 64))
		err(1, "port %d", port);
	return fd;
}

int main(void)
{
	signal(SIGCHLD, SIG_IGN);
	gate = listen_at(PORT_GATE);
	for (int port = PORT_ECHO; port < PORTS_END; port++) {
		int listener = port == PORT_GATE ? -1 : listen_at(port);

		if (listener < 0 || fork())
			continue;
		while (true) {
			int fd = accept(listener, NULL, NULL);

			if (fd < 0)
				err(1, "accept");
			if (!fork()) {
				serve(port, fd);
				return 0;
			}
			close(fd);
		}
	}
	puts("ready");
	fflush(stdout);
	pause();
}
