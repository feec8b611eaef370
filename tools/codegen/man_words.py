# SPDX-License-Identifier: GPL-2.0
"""What the manual pages say besides popcornctl's own help: by hand, one entry for each command.

The help of a command says what it does and what its options mean. Here are its arguments, which
click has no help for, an example or more, and the files and environment variables it looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from popcorn.cli import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

__all__ = ("ENVIRONMENT", "EXITS", "EXIT_DONE", "FILES", "ROOT", "WORDS", "Words")

ROOT = "popcornctl"

EXIT_DONE = 0

EXITS: Mapping[int, str] = {
    EXIT_DONE: "Done.",
    EXIT_FAILED: "Refused or failed; standard error says why and what to do about it.",
    EXIT_USAGE: "Wrong usage: an unknown command or option, or a value that cannot be read.",
    EXIT_INTERRUPTED: "Interrupted with Ctrl-C.",
}
"""Exit codes of every command, which a command may put more precisely."""

ENVIRONMENT: Mapping[str, str] = {
    "NO_COLOR": "If set and not empty, states are printed without colour.",
    "TERM": "With the value dumb, no colour and no progress line that is written over.",
    "XDG_CACHE_HOME": (
        "Where users other than root keep the images that were made, in the directory popcorn;"
        " ~/.cache by default."
    ),
    "SUDO_USER": "Whose keys get into images of profile shell, if it is set: see kernel ssh.",
    "BCC_KERNEL_SOURCE": (
        "Headers of the running kernel for the tracing programs;"
        " /lib/modules/RELEASE/build by default."
    ),
}

FILES: Mapping[str, str] = {
    "/dev/popcorn/host": "Memory of the kernels, to load and to look at; made by popcorn_host.",
    "/sys/class/popcorn": "The nodes, as devices.",
    "/boot/vmlinuz-RELEASE": "Kernel images that are found by their release.",
    "/lib/modules/RELEASE": "Popcorn's modules for a release: the initramfs gets them from here.",
    "/run/popcorn": "Sockets of those who have a terminal open, for those who look on.",
    "/run/popcorn/root": "What those do who serve this kernel's root to other kernels.",
    "/var/cache/popcorn": "Images that root made, and unpacked kernels: those used last.",
}


@dataclass(frozen=True)
class Words:
    """One page's words; `examples` are pairs of a sentence and command lines."""

    examples: tuple[tuple[str, str], ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)
    exits: Mapping[int, str] = field(default_factory=dict)
    environment: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    see: tuple[str, ...] = ()


_COLOUR = ("NO_COLOR", "TERM")
_IMAGES = ("/lib/modules/RELEASE", "/var/cache/popcorn")
_LINK = {"NAME": "The link, by the name of its interface."}
_NAME = {"NAME": "The kernel, by its name or id."}

#: By the words of the command line after popcornctl; the empty one is popcornctl itself.
WORDS: Mapping[str, Words] = {
    "": Words(
        examples=(
            ("Can this machine do it?", "popcornctl doctor"),
            (
                "Start a second kernel with two CPUs and 512 MiB, and look at it:",
                "popcornctl kernel start web --cpus 2-3 --memory 512M\npopcornctl node list",
            ),
            ("Give everything back:", "popcornctl kernel stop web"),
        ),
        environment=tuple(ENVIRONMENT),
        files=tuple(FILES),
        see=("popcorn-latency(8)", "modprobe(8)"),
    ),
    "doctor": Words(
        examples=(
            ("Check this machine:", "popcornctl doctor"),
            ("Keep the answers, for a report:", "popcornctl doctor --json > doctor.json"),
        ),
        exits={EXIT_FAILED: "Something makes it impossible."},
        environment=_COLOUR,
        files=("/boot/vmlinuz-RELEASE", "/lib/modules/RELEASE"),
    ),
    "kernel": Words(),
    "kernel plan": Words(
        examples=(
            ("What would be done?", "popcornctl kernel plan web --cpus 2-3 --memory 512M"),
            (
                "The command line that another release would get:",
                "popcornctl kernel plan old --cpus 4 --memory 256M \\\n"
                "    --kernel 6.1.0-56-cloud-amd64",
            ),
        ),
        arguments={"NAME": "The name that the kernel would have."},
        environment=("XDG_CACHE_HOME",),
        files=("/boot/vmlinuz-RELEASE", *_IMAGES),
    ),
    "kernel start": Words(
        examples=(
            (
                "A kernel like the running one:",
                "popcornctl kernel start web --cpus 2-3 --memory 512M",
            ),
            (
                "Another version, with an initramfs of one's own:",
                "popcornctl kernel start job --cpus 5 --memory 1G \\\n"
                "    --kernel 6.1.0-56-cloud-amd64 --initrd job.img",
            ),
            (
                "Once more, on the CPUs and memory that it kept:",
                "popcornctl kernel stop web --keep\npopcornctl kernel start web",
            ),
            (
                "With this machine's programs and files as its root, which it cannot change:",
                "popcornctl link add\n"
                "popcornctl kernel start web --cpus 2-3 --memory 1G --root host\n"
                "popcornctl kernel exec web -- python3 job.py",
            ),
        ),
        arguments={"NAME": "The name that the kernel gets, or has if it kept its lease."},
        exits={
            130: "Interrupted with Ctrl-C; standard error says what is left and how to undo it."
        },
        environment=("TERM", "XDG_CACHE_HOME"),
        files=("/dev/popcorn/host", "/boot/vmlinuz-RELEASE", *_IMAGES, "/run/popcorn/root"),
        see=("popcornctl-link-add(1)", "diod(8)"),
    ),
    "kernel stop": Words(
        examples=(
            ("Stop a kernel, and give it two minutes:", "popcornctl kernel stop web --timeout 120"),
        ),
        arguments=_NAME,
    ),
    "kernel kill": Words(
        examples=(("End a kernel that does not answer:", "popcornctl kernel kill web"),),
        arguments=_NAME,
    ),
    "kernel restart": Words(
        examples=(
            (
                "A kernel that crashed, with what it was started with:",
                "popcornctl kernel restart web",
            ),
            (
                "Another version of it, without asking the running one:",
                "popcornctl kernel restart web --force --kernel 6.12.107+deb13-amd64",
            ),
        ),
        arguments=_NAME,
        exits={
            EXIT_FAILED: (
                "It does not run again, and standard error says why. Its lease stays in any case;"
                " before the kernel was ended nothing has changed."
            ),
            130: "Interrupted with Ctrl-C; standard error says what is left and how to go on.",
        },
        environment=("TERM", "XDG_CACHE_HOME"),
        files=("/dev/popcorn/host", "/boot/vmlinuz-RELEASE", *_IMAGES),
        see=("popcornctl-kernel-start(1)",),
    ),
    "kernel nmi": Words(
        examples=(
            (
                "Where does it hang?",
                "popcornctl kernel nmi web\npopcornctl kernel dmesg web | tail -n 60",
            ),
        ),
        arguments=_NAME,
        exits={
            EXIT_FAILED: (
                "There is no such kernel, it has not joined, has ended, or takes no NMI from here."
            )
        },
        see=("popcornctl-kernel-dmesg(1)",),
    ),
    "kernel exec": Words(
        examples=(
            ("How long has it been up?", "popcornctl kernel exec web -- uptime"),
            (
                "Bring a file over, and look whether it arrived:",
                "popcornctl kernel exec web -- sh -c 'cat > /tmp/job' < job\n"
                "popcornctl kernel exec -n web -- sha256sum /tmp/job",
            ),
        ),
        arguments={
            **_NAME,
            "COMMAND": "The command and its words. No shell reads them but the one here.",
        },
        exits={
            EXIT_FAILED: "The command's own status; or it was not run, and standard error says why."
        },
        see=("popcornctl-console(1)",),
    ),
    "kernel list": Words(
        examples=(
            ("All kernels:", "popcornctl kernel list"),
            (
                "The names of those that run:",
                "popcornctl kernel list --json |\n"
                "    jq -r '.[] | select(.state == \"running\").name'",
            ),
        ),
        environment=_COLOUR,
    ),
    "kernel show": Words(
        examples=(("Where is it, and since when?", "popcornctl kernel show web"),),
        arguments=_NAME,
        environment=_COLOUR,
    ),
    "kernel wait": Words(
        examples=(
            (
                "Wait up to an hour for a job to power off:",
                "popcornctl kernel wait job --state stopped --timeout 3600",
            ),
        ),
        arguments=_NAME,
        exits={EXIT_FAILED: "It did not come to that state in time, or there is no such kernel."},
    ),
    "kernel dmesg": Words(
        examples=(
            ("What has it said so far?", "popcornctl kernel dmesg web"),
            (
                "Watch a kernel come up, from another terminal than start:",
                "popcornctl kernel dmesg --follow web",
            ),
            (
                "What went wrong, and when?",
                "popcornctl kernel dmesg -T -l emerg,alert,crit,err web",
            ),
        ),
        arguments=_NAME,
        files=("/dev/popcorn/host",),
        see=("dmesg(1)",),
    ),
    "kernel dump": Words(
        examples=(
            (
                "Keep a kernel that crashed, and then start it anew:",
                "popcornctl kernel dump web -o web.core\npopcornctl kernel start web",
            ),
            (
                "A smaller file, and what it was made of:",
                "popcornctl kernel dump web --compress zstd -o web.core.zst\n"
                "zstd -d --sparse web.core.zst",
            ),
            (
                "The log in it:",
                "popcornctl kernel dump web -o web.core\n"
                "makedumpfile --dump-dmesg web.core log.txt",
            ),
        ),
        arguments=_NAME,
        environment=("TERM",),
        files=("/dev/popcorn/host",),
        see=("makedumpfile(8)",),
    ),
    "kernel ssh": Words(
        examples=(
            (
                "A kernel that can be logged in to, and a login:",
                "popcornctl link add\n"
                "popcornctl kernel start web --cpus 2-3 --memory 512M --profile shell\n"
                "popcornctl kernel ssh web",
            ),
            ("A command there:", "popcornctl kernel ssh web uname -r"),
        ),
        arguments={**_NAME, "COMMAND": "What to run there; a login shell by default."},
        exits={EXIT_FAILED: "There is no link, or no such kernel on it; else what ssh ended with."},
        see=("popcornctl-link-add(1)",),
    ),
    "console": Words(
        examples=(
            (
                "A shell on a kernel, which has one in images of profile shell:",
                "popcornctl kernel start web --cpus 2 --memory 256M --profile shell\n"
                "popcornctl console web",
            ),
            (
                "All that a kernel prints, from its first line on, into a file:",
                "popcornctl kernel start web --cpus 2 --memory 256M \\\n"
                "    --append console=ttyPCN0\n"
                "popcornctl console web --watch --log web.log",
            ),
            ("One command:", "echo uptime | popcornctl console web"),
        ),
        arguments={"NAME": "The kernel, or the node, by its name or id."},
        exits={EXIT_FAILED: "The line is in use, cannot be opened, or was hung up."},
        files=("/run/popcorn",),
        see=("popcornctl-kernel-start(1)",),
    ),
    "node": Words(),
    "node list": Words(
        examples=(("Who is on the fabric?", "popcornctl node list"),), environment=_COLOUR
    ),
    "node show": Words(
        examples=(("All about this kernel's own node:", "popcornctl node show 0"),),
        arguments={"NODE": "The node, by its name or id."},
        environment=_COLOUR,
        files=("/sys/class/popcorn",),
    ),
    "node set": Words(
        examples=(
            (
                "Answer fast: poll for up to 200 microseconds before sleeping.",
                "popcornctl node set --poll-window 200",
            ),
            (
                "Leave the CPU to others: sleep at once, and poll in threads.",
                "popcornctl node set --poll-window 0 --threaded on",
            ),
        ),
        see=("popcornctl-queue-list(1)",),
    ),
    "node latency": Words(
        examples=(
            ("How long do messages from and to one node take?", "popcornctl node latency web"),
            (
                "The interrupts alone, of all kernels, for a program:",
                "popcornctl node latency --stage doorbell --json",
            ),
        ),
        arguments={"NODE": "A node, by its name or id; all if it is not given."},
        see=("popcornctl-trace-latency(1)",),
    ),
    "channel": Words(),
    "channel list": Words(
        examples=(
            ("What goes between this kernel and another?", "popcornctl channel list web"),
            (
                "Doorbells for each thousand messages sent:",
                "popcornctl channel list --json | jq '.[] |\n"
                "    [.node, 1000 * .doorbells_sent / ([.sent, 1] | max)]'",
            ),
        ),
        arguments={"NODE": "The other node, by its name or id; all if it is not given."},
        see=("popcornctl-node-latency(1)",),
    ),
    "queue": Words(),
    "queue list": Words(
        examples=(("How does this kernel wait for messages?", "popcornctl queue list"),),
        see=("popcornctl-node-set(1)",),
    ),
    "service": Words(),
    "service list": Words(
        examples=(("What does one node offer?", "popcornctl service list --node web"),)
    ),
    "link": Words(
        see=("ip-link(8)",),
    ),
    "link list": Words(
        examples=(("Which link is there, and whom does it reach?", "popcornctl link list"),),
        environment=_COLOUR,
    ),
    "link show": Words(
        examples=(("With what addresses are the others found?", "popcornctl link show"),),
        arguments=_LINK,
        environment=_COLOUR,
    ),
    "link add": Words(
        examples=(
            ("A link with the private address of this machine and node:", "popcornctl link add"),
            (
                "One with an address of one's own, for the largest packets:",
                "popcornctl link add --address 192.168.7.1/24 --mtu 65520",
            ),
            (
                "One through which the others reach the outside:",
                "popcornctl link add --uplink nat",
            ),
        ),
        arguments={"NAME": "The name of the interface; popcorn0 by default."},
        see=("ip-link(8)",),
    ),
    "link set": Words(
        examples=(("Longer packets:", "popcornctl link set popcorn0 --mtu 9000"),),
        arguments=_LINK,
    ),
    "link del": Words(
        examples=(("Take it away:", "popcornctl link del popcorn0"),),
        arguments=_LINK,
    ),
    "ping": Words(
        examples=(
            ("A thousand round trips:", "popcornctl ping web -c 1000"),
            (
                "One each second, with as much payload as a slot has:",
                "popcornctl ping web -i 1 -s 40",
            ),
            ("How many go through in a second?", "popcornctl ping web --flood --window 128"),
            ("And how many bytes?", "popcornctl ping web --flood --size 64K --window 16"),
            (
                "Calls, at a rate that lets the node sleep:",
                "popcornctl ping web --in-place --rate 100/s",
            ),
        ),
        arguments={"NODE": "The node, by its name or id."},
        exits={EXIT_FAILED: "Nothing was answered, or the node cannot be reached."},
        see=("popcornctl-node-latency(1)", "popcornctl-trace-latency(1)"),
    ),
    "image": Words(),
    "image build": Words(
        examples=(
            (
                "An initramfs that runs a script, and a kernel that uses it:",
                "popcornctl image build --profile shell --run ./job.sh -o job.img\n"
                "popcornctl kernel start job --cpus 5 --memory 1G --initrd job.img",
            ),
            (
                "One for another release, with one more module:",
                "popcornctl image build --release 6.1.0-56-cloud-amd64 \\\n"
                "    --module popcorn_hello -o hello.img",
            ),
        ),
        files=("/lib/modules/RELEASE",),
        see=("popcornctl-kernel-start(1)",),
    ),
    "image inspect": Words(
        examples=(("What is in it?", "popcornctl image inspect --files job.img"),),
        arguments={"FILE": "The image to look at."},
    ),
    "metrics": Words(
        examples=(
            ("What is counted?", "popcornctl metrics"),
            (
                "For node_exporter, where Debian's package looks:",
                "popcornctl metrics \\\n"
                "    --textfile /var/lib/prometheus/node-exporter/popcorn.prom",
            ),
        ),
        exits={EXIT_FAILED: "It cannot be asked or written; the file is as it was."},
        see=("popcornctl-channel-list(1)", "popcornctl-node-latency(1)"),
    ),
    "monitor": Words(
        examples=(
            ("Kernels as they come and go, with the time:", "popcornctl monitor --type kernel -t"),
            ("The next event, as JSON:", "popcornctl monitor --json -n 1"),
        ),
        environment=_COLOUR,
        files=("/sys/class/popcorn",),
        see=("udev(7)",),
    ),
    "trace": Words(
        see=(
            "popcorn-latency(8)",
            "popcorn-flow(8)",
            "popcorn-doorbell(8)",
            "popcorn-net(8)",
            "popcorn-heatmap(8)",
        )
    ),
    "trace latency": Words(
        examples=(
            (
                "Where does the time of a ping go?",
                "popcornctl trace latency -- popcornctl ping web -c 1000",
            ),
            ("One JSON line each second, for a minute:", "popcornctl trace latency --json 1 60"),
            (
                "Between all kernels, without BPF, for ten seconds:",
                "popcornctl trace latency --source fabric --by channel --duration 10",
            ),
        ),
        arguments={
            "INTERVAL": "Seconds between two reports.",
            "REPORTS": "End after so many reports.",
            "COMMAND": "A command to trace; what follows it are its own arguments.",
        },
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        environment=("BCC_KERNEL_SOURCE",),
        see=("popcorn-latency(8)", "popcornctl-ping(1)"),
    ),
    "trace boot": Words(
        examples=(
            (
                "What takes the time when a kernel is started?",
                "popcornctl trace boot -- popcornctl kernel start web --cpus 2",
            ),
        ),
        arguments={"COMMAND": "A command to trace; what follows it are its own arguments."},
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        see=("popcorn-boot(8)", "popcornctl-kernel-start(1)", "popcornctl-trace-record(1)"),
    ),
    "trace record": Words(
        examples=(
            (
                "Ten seconds of all kernels, to be opened in https://ui.perfetto.dev:",
                "popcornctl trace record --duration 10 --output all.json",
            ),
            (
                "One command:",
                "popcornctl trace record -- popcornctl ping web -c 10",
            ),
        ),
        arguments={"COMMAND": "A command to trace; what follows it are its own arguments."},
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        environment=("BCC_KERNEL_SOURCE",),
        see=("popcorn-record(8)", "popcornctl-trace-flow(1)"),
    ),
    "trace flow": Words(
        examples=(
            (
                "Which messages take longer than 2 ms, and why?",
                "popcornctl trace flow --slower 2000",
            ),
            (
                "Every message of one command, as JSON:",
                "popcornctl trace flow --json -- popcornctl ping web -c 10",
            ),
        ),
        arguments={"COMMAND": "A command to trace; what follows it are its own arguments."},
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        environment=("BCC_KERNEL_SOURCE",),
        see=("popcorn-flow(8)", "popcornctl-trace-latency(1)"),
    ),
    "trace doorbell": Words(
        examples=(
            (
                "How many doorbells does a flood need?",
                "popcornctl trace doorbell -- popcornctl ping web --flood",
            ),
            ("Every second, for a minute:", "popcornctl trace doorbell 1 60"),
        ),
        arguments={
            "INTERVAL": "Seconds between two reports.",
            "REPORTS": "End after so many reports.",
            "COMMAND": "A command to trace; what follows it are its own arguments.",
        },
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        environment=("BCC_KERNEL_SOURCE",),
        see=("popcorn-doorbell(8)", "popcornctl-queue-list(1)"),
    ),
    "trace net": Words(
        examples=(
            (
                "How large are the packets of a copy, and how long do they take?",
                "popcornctl trace net -- scp data.img 10.80.78.2:",
            ),
            ("What is dropped at a link, for what?", "popcornctl trace net --link popcorn0 10"),
        ),
        arguments={
            "INTERVAL": "Seconds between two reports.",
            "REPORTS": "End after so many reports.",
            "COMMAND": "A command to trace; what follows it are its own arguments.",
        },
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        environment=("BCC_KERNEL_SOURCE",),
        see=("popcorn-net(8)", "popcornctl-link-show(1)", "ethtool(8)"),
    ),
    "trace heatmap": Words(
        examples=(
            (
                "Messages between all kernels, without BPF, every half second:",
                "popcornctl trace heatmap --source fabric 0.5",
            ),
            (
                "A minute as a picture:",
                "popcornctl trace heatmap --duration 60 --svg heat.svg",
            ),
        ),
        arguments={
            "INTERVAL": "Seconds that a line is of.",
            "COMMAND": "A command to trace; what follows it are its own arguments.",
        },
        exits={EXIT_DONE: "Done. With COMMAND, its own exit status is returned instead."},
        environment=("BCC_KERNEL_SOURCE", *_COLOUR),
        see=("popcorn-heatmap(8)", "popcornctl-trace-latency(1)"),
    ),
    "completion": Words(
        examples=(
            (
                "For all users of bash, where it was not installed with the command:",
                "popcornctl completion bash > /etc/bash_completion.d/popcornctl",
            ),
            ("For this shell alone:", "source <(popcornctl completion bash)"),
        ),
        arguments={"SHELL": "The shell that the script is for: bash, zsh or fish."},
    ),
}
