# SPDX-License-Identifier: GPL-2.0
"""Perfetto's trace processor, which is what reads a timeline there, to try our timelines with.

Neither Debian's perfetto nor PyPI's has it inside: the first leaves it out, the second downloads it
from a place of its own when it is first used. But the release's Qt WebEngine contains Chromium's
whole copy of Perfetto, and its trace processor builds from that with Debian's libraries.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from .apt import Apt, codename, ensure_installed
from .paths import BUILD
from .shell import LOG, lock, run

BASE = BUILD / "perfetto"
#: The program, and the directory of PyPI's module that asks it.
PROGRAM = BASE / "trace_processor_shell"
PYTHON = BASE / "python"

SOURCE = "qt6-webengine"
WITHIN = "*/src/3rdparty/chromium/third_party/perfetto"
#: A new version of the module may ask for what a program of 2022 does not know.
MODULE = "perfetto==0.59.1"

# What the build needs besides packages.txt, and the module when it asks; for who builds it only.
PACKAGES = (
    "g++",
    "generate-ninja",
    "libjsoncpp-dev",
    "libprotoc-dev",
    "libsqlite3-dev",
    "ninja-build",
    "protobuf-compiler",
    "python3-protobuf",
    "xz-utils",
)

# In place of the file that names Perfetto's own copies of libraries, which are not in the package.
# Targets of others are named by what is not built.
LIBRARIES = """\
config("jsoncpp_config") {
  cflags = [ "-isystem/usr/include/jsoncpp" ]
  libs = [ "jsoncpp" ]
}
group("jsoncpp") {
  public_configs = [ ":jsoncpp_config" ]
}
config("sqlite_config") {
  libs = [ "sqlite3" ]
}
group("sqlite") {
  public_configs = [ ":sqlite_config" ]
}
foreach(unused, [ "gmock", "gtest", "gtest_main", "libbacktrace", "protoc" ]) {
  group(unused) {
  }
}
"""

ARGUMENTS = """\
is_debug=false
is_clang=false
is_hermetic_clang=false
is_system_compiler=true
use_custom_libcxx=false
skip_buildtools_check=true
cc="gcc"
cxx="g++"
perfetto_use_system_protobuf=true
enable_perfetto_benchmarks=false
enable_perfetto_fuzzers=false
enable_perfetto_integration_tests=false
enable_perfetto_unittests=false
enable_perfetto_llvm_demangle=false
enable_perfetto_trace_processor_linenoise=false
enable_perfetto_trace_processor_percentile=false
enable_perfetto_version_gen=false
enable_perfetto_x64_cpu_opt=false
enable_perfetto_zlib=false
"""

# In place of its own for the compiler: our traces are small, the build is not, and gcc 12 warns of
# more than Chromium's compiler does.
FLAGS = (("-O3", "-O1"), ("-g", "-g0"), ("-Werror", "-Wno-error"))


def ensure() -> Path:
    """Return the program, building it first if it is not there."""
    with lock("perfetto"):
        if not PROGRAM.exists():
            for package in PACKAGES:
                ensure_installed(package)
            apt = Apt(codename(), sources=True)
            apt.update()
            with tempfile.TemporaryDirectory(dir=BUILD, prefix="perfetto-") as scratch:
                _make(apt, Path(scratch))
        LOG.info("%s", run([PROGRAM, "--version"]).splitlines()[0])
    return PROGRAM


def _make(apt: Apt, scratch: Path) -> None:
    """Fetch, build and put in place, the whole or nothing."""
    tarball = apt.source(SOURCE, scratch)
    LOG.info("unpacking Perfetto from %s", tarball.name)
    run(["tar", "-xf", tarball, "-C", scratch, "--wildcards", f"{WITHIN}/*"])
    tarball.unlink()
    (tree,) = scratch.glob(WITHIN)
    (tree / "buildtools/BUILD.gn").write_text(LIBRARIES)
    settings = tree / "gn/standalone/BUILD.gn"
    text = settings.read_text()
    for was, becomes in FLAGS:
        text = text.replace(f'"{was}"', f'"{becomes}"')
    settings.write_text(text)
    out = tree / "out"
    out.mkdir()
    (out / "args.gn").write_text(ARGUMENTS)
    run(["gn", "gen", out], cwd=tree)
    LOG.info("building the trace processor; ten minutes or more")
    run(["nice", "-n", "19", "ninja", "--quiet", "-C", out, PROGRAM.name], capture=False)
    made = scratch / "made"
    made.mkdir()
    run(["strip", "-o", made / PROGRAM.name, out / PROGRAM.name])
    pip = ["/usr/bin/python3", "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([*pip, "install", "--no-deps", "--target", made / PYTHON.name, MODULE])
    shutil.rmtree(BASE, ignore_errors=True)
    made.rename(BASE)
