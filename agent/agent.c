// SPDX-License-Identifier: GPL-2.0
/*
 * popcorn-agent DEVICE: runs commands that come over a line, for `popcornctl kernel exec`. It is in images of
 * profile shell, linked statically, and needs nothing there but the line.
 *
 * A frame is a byte for its kind, a zero byte, two for the length of what follows, least first. A zero where
 * a kind should be is skipped: whoever begins sends so many that a frame which somebody left half sent ends
 * in them. tools/popcorn/execute.py is the other end.
 *
 *   H cookie      begin anew: what runs is ended; answered with the same
 *   W bytes       more of the words of a command, each ended by a zero
 *   X             run it; answered by S, or F errno(4)
 *   I bytes, E    its standard input, and the end of that; A count(4) says how much was taken
 *   K signal(1)   to its process group
 *   O, R bytes    its standard output and error
 *   D status(4)   it ended, as wait() says; nothing more comes
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define HEAD		4
#define FRAME		4096		/* longest payload */
#define WORDS		(128 << 10)
#define INPUT		(64 << 10)	/* the sender never has more under way than half of it */
#define OUTPUT		(64 << 10)
#define TICK_MS		500

static int line = -1;
static sigset_t on_child_only, nothing;

static uint8_t in[HEAD + FRAME];	/* a frame that is coming */
static size_t in_len;
static uint8_t out[OUTPUT];		/* frames that wait to go */
static size_t out_len;

static char words[WORDS];
static size_t words_len;
static uint8_t input[INPUT];		/* for the command's standard input */
static size_t input_len;
static int input_ended;

static pid_t child;
static int child_ended, child_status;
static int child_in = -1, child_out = -1, child_err = -1;

static void put(uint8_t kind, const void *data, size_t len)
{
	uint8_t head[HEAD] = { kind, 0, len & 0xff, len >> 8 };

	if (out_len + HEAD + len > sizeof(out))
		return; /* cannot be: nothing is read while little room is left */
	memcpy(out + out_len, head, HEAD);
	if (len)
		memcpy(out + out_len + HEAD, data, len);
	out_len += HEAD + len;
}

static void put_number(uint8_t kind, uint32_t value)
{
	uint8_t bytes[4] = { value, value >> 8, value >> 16, value >> 24 };

	put(kind, bytes, sizeof(bytes));
}

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Whatever runs is ended, and nothing is left of it. */
static void end_child(void)
{
	int i;

	if (child && !child_ended) {
		kill(-child, SIGHUP);
		for (i = 0; i < 20 && !waitpid(child, NULL, WNOHANG); i++)
			usleep(50000);
		kill(-child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	child = 0;
	child_ended = 0;
	shut(&child_in);
	shut(&child_out);
	shut(&child_err);
	words_len = 0;
	input_len = 0;
	input_ended = 0;
}

static void run_child(int fds[4][2])
{
	char *argv[WORDS / 2], *word = words;
	int argc = 0, error;

	while (word < words + words_len) {
		argv[argc++] = word;
		word += strlen(word) + 1;
	}
	argv[argc] = NULL;
	setsid();
	dup2(fds[0][0], 0);
	dup2(fds[1][1], 1);
	dup2(fds[2][1], 2);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	/* A shell lets what it starts in the background ignore these, and we were. */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &on_child_only, NULL);
	execvp(argv[0], argv);
	error = errno;
	(void)!write(fds[3][1], &error, sizeof(error));
	_exit(127);
}

static void start_child(void)
{
	int fds[4][2], i, error = 0;

	if (child || !words_len || words[words_len - 1]) {
		put_number('F', EINVAL);
		return;
	}
	for (i = 0; i < 4; i++) {
		if (pipe2(fds[i], O_CLOEXEC)) {
			error = errno;
			while (i--) {
				close(fds[i][0]);
				close(fds[i][1]);
			}
			put_number('F', error);
			return;
		}
	}
	child = fork();
	if (!child)
		run_child(fds);
	error = child < 0 ? errno : 0;
	close(fds[0][0]);
	close(fds[1][1]);
	close(fds[2][1]);
	close(fds[3][1]);
	child_in = fds[0][1];
	child_out = fds[1][0];
	child_err = fds[2][0];
	/* Closed by a successful exec. */
	if (!error && read(fds[3][0], &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(fds[3][0]);
	if (error) {
		if (child > 0)
			waitpid(child, NULL, 0);
		child_ended = 1;
		end_child();
		put_number('F', error);
		return;
	}
	child_ended = 0;
	for (i = 0; i < 3; i++) {
		int fd = i == 0 ? child_in : i == 1 ? child_out : child_err;

		fcntl(fd, F_SETFL, O_NONBLOCK);
	}
	put('S', NULL, 0);
}

static void feed_child(void)
{
	ssize_t done;

	while (input_len) {
		/* Nobody reads it: it is taken all the same. */
		done = child_in < 0 ? (ssize_t)input_len : write(child_in, input, input_len);
		if (done < 0 && errno == EAGAIN)
			return;
		if (done < 0) {
			shut(&child_in);
			continue;
		}
		memmove(input, input + done, input_len - done);
		input_len -= done;
		put_number('A', done);
	}
	if (input_ended)
		shut(&child_in);
}

static void drain_child(int *fd, uint8_t kind)
{
	uint8_t data[FRAME];
	ssize_t len = read(*fd, data, sizeof(data));

	if (len > 0)
		put(kind, data, len);
	else if (len == 0 || errno != EAGAIN)
		shut(fd);
}

static void handle(uint8_t kind, const uint8_t *data, size_t len)
{
	switch (kind) {
	case 'H':
		end_child();
		put('H', data, len);
		break;
	case 'W':
		if (!child && words_len + len <= sizeof(words)) {
			memcpy(words + words_len, data, len);
			words_len += len;
		} else {
			words_len = 0; /* X says that it is too long */
		}
		break;
	case 'X':
		start_child();
		break;
	case 'I':
		if (child && input_len + len <= sizeof(input)) {
			memcpy(input + input_len, data, len);
			input_len += len;
			feed_child();
		}
		break;
	case 'E':
		input_ended = 1;
		feed_child();
		break;
	case 'K':
		if (child && !child_ended && len == 1 && data[0] > 0 && data[0] < 65)
			kill(-child, data[0]);
		break;
	}
}

/* Returns 0 when the line was hung up. */
static int receive(void)
{
	uint8_t data[FRAME];
	ssize_t got = read(line, data, sizeof(data)), i;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (got <= 0)
		return 0;
	for (i = 0; i < got; i++) {
		size_t len;

		if (!in_len && !data[i])
			continue;
		in[in_len++] = data[i];
		if (in_len < HEAD)
			continue;
		len = in[2] | in[3] << 8;
		if (len > FRAME) {
			in_len = 0; /* no frame of ours */
			continue;
		}
		if (in_len == HEAD + len) {
			in_len = 0;
			handle(in[0], in + HEAD, len);
		}
	}
	return 1;
}

static int send_out(void)
{
	ssize_t done;

	while (out_len) {
		done = write(line, out, out_len);
		if (done < 0 && (errno == EAGAIN || errno == EINTR))
			return 1;
		if (done <= 0)
			return 0;
		memmove(out, out + done, out_len - done);
		out_len -= done;
	}
	return 1;
}

static int carrier(void)
{
	int bits;

	return ioctl(line, TIOCMGET, &bits) || (bits & TIOCM_CAR);
}

static void serve(void)
{
	const struct timespec tick = { 0, TICK_MS * 1000000L };
	struct pollfd fds[4];
	int status, room;

	in_len = 0;
	out_len = 0;
	for (;;) {
		room = out_len < OUTPUT - 4 * (HEAD + FRAME);
		fds[0] = (struct pollfd){ line, (room ? POLLIN : 0) | (out_len ? POLLOUT : 0), 0 };
		fds[1] = (struct pollfd){ room ? child_out : -1, POLLIN, 0 };
		fds[2] = (struct pollfd){ room ? child_err : -1, POLLIN, 0 };
		fds[3] = (struct pollfd){ input_len ? child_in : -1, POLLOUT, 0 };
		/* The end of a command interrupts this, and nothing else. */
		if (ppoll(fds, 4, child ? &tick : NULL, &nothing) < 0) {
			if (errno != EINTR)
				return;
			memset(fds, 0, sizeof(fds));
		}
		if (fds[0].revents & ~POLLOUT && !receive())
			return;
		if (child_out >= 0 && fds[1].revents)
			drain_child(&child_out, 'O');
		if (child_err >= 0 && fds[2].revents)
			drain_child(&child_err, 'R');
		if (fds[3].revents)
			feed_child();
		if (child && !child_ended && waitpid(child, &status, WNOHANG) == child) {
			child_ended = 1;
			child_status = status;
		}
		/* What was inherited by something in the background may stay open: not waited for. */
		if (child_ended && child) {
			while (out_len < OUTPUT - 4 * (HEAD + FRAME) && (child_out >= 0 || child_err >= 0)) {
				size_t before = out_len;

				if (child_out >= 0)
					drain_child(&child_out, 'O');
				if (child_err >= 0)
					drain_child(&child_err, 'R');
				if (out_len == before)
					break;
			}
			if (out_len < OUTPUT - 4 * (HEAD + FRAME)) {
				status = child_status;
				end_child();
				put_number('D', status);
			}
		}
		if (child && !carrier())
			end_child();
		if (!send_out())
			return;
	}
}

static void on_child(int number)
{
	(void)number;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_child };
	struct termios mode;

	if (argc != 2) {
		fprintf(stderr, "usage: popcorn-agent DEVICE\n");
		return 2;
	}
	sigemptyset(&nothing);
	sigemptyset(&on_child_only);
	sigaddset(&on_child_only, SIGCHLD);
	sigprocmask(SIG_BLOCK, &on_child_only, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigaction(SIGCHLD, &action, NULL);
	for (;;) {
		/* Without a primary at the other end there is nothing to open. */
		line = open(argv[1], O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		if (line < 0) {
			sleep(1);
			continue;
		}
		if (!tcgetattr(line, &mode)) {
			cfmakeraw(&mode);
			mode.c_cflag |= CLOCAL | CREAD;
			tcsetattr(line, TCSANOW, &mode);
		}
		serve();
		end_child();
		shut(&line);
	}
}
