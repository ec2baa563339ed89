"""What is true: for each workload the call chains that its source makes, from the outermost frame to the leaf.

A chain is the user part of a stack: frames joined by ";", kernel frames left out. A rule matches a whole chain. Names
of libc's own functions differ between its versions, and between a table of symbols and a separate debug file, so only
what the workload's source decides is spelled out; `TAIL` is whatever a library calls below that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

FRAME = r"[^;]+"
TAIL = rf"(;{FRAME})*"
# A frame in the signal trampoline has no name of its own in most C libraries.
SIGNAL_FRAME = rf";{FRAME};"

GLIBC_MAIN = r"_start;__libc_start_main[^;]*;__libc_start_call_main;main"
GLIBC_CLONE = r"(?:__GI_+|__)?clone3?"
GLIBC_THREAD = rf"{GLIBC_CLONE};start_thread"
# Debian's musl has no unwind tables: a chain is right as far as the workload's own frames, and marked where it ends; one
# that was taken inside musl's clock_gettime ends there, which costs some percent.
MUSL_MAIN = rf"(?:{FRAME};){{0,3}}main"
GO_MAIN = r"runtime\.goexit(?:\.abi0)?;runtime\.main;main\.main"
GO_ROUTINE = r"runtime\.goexit(?:\.abi0)?"
RUST_MAIN = (
    rf"{GLIBC_MAIN};std::rt::lang_start_internal[^;]*;[^;]*lang_start[^;]*;"
    r"[^;]*__rust_begin_short_backtrace[^;]*;rusty::main"
)
RUST_THREAD = (
    rf"{GLIBC_THREAD};[^;]*thread_start[^;]*;[^;]*call_once[^;]*(?:;[^;]*call_once[^;]*)*;"
    r"[^;]*__rust_begin_short_backtrace[^;]*"
)
CLOCK = r"(?:;[^;]*(?:Instant|clock_gettime|Timespec|time)[^;]*)*"
RUST_SPIN = r"(?:;rusty::spin[^;]*)?"

# Where stacks begin: what a complete one, of whatever program, ends in at the outer side.
ROOTS = re.compile(
    r"_start|_dl_start_user|_dl_start|(?:__GI_+|__)?clone3?|(?:__|_+libc_)?v?fork|_Fork|"
    r"runtime\.(?:goexit|mstart|mcall|rt0_go|systemstack|gogo|morestack|asmcgocall|clone|sigreturn|sigtramp)[^;]*|"
    r"_rt0_[^;]*"
)


@dataclass(frozen=True)
class Workload:
    """One program below tests/workloads and what it looks like in a profile."""

    chains: tuple[str, ...]
    """Regular expressions; a sample is right when one of them matches its whole chain."""
    seen: tuple[str, ...] = ()
    """Expressions for parts of chains: each must be found in some sample, so that a profile of nothing is not right."""
    program: str = ""
    """The file to run, where it is not the name of the row."""
    arguments: tuple[str, ...] = ()
    """Behind the number of seconds."""
    comm: str = ""
    share: float = 0.995
    """How much of the samples must be right."""

    def is_right(self, chain: str) -> bool:
        return any(re.fullmatch(rule, chain) for rule in self.chains)


def split_chains(main: str) -> tuple[str, ...]:
    # The rest of main are libc's and the vDSO's parts of clock_gettime.
    return (rf"{main}(;(seventy|twenty|ten)(;spin|(;{FRAME}){{0,3}})?)?",)


SPLIT_SEEN = ("main;seventy;spin", "main;twenty;spin", "main;ten;spin")
DEEP_CHAIN = r"(;descend_even;descend_odd){100};bottom"
# On the way down and up the recursion is cut short, but stays in order.
DEEP_PARTIAL = r"(;descend_even;descend_odd){0,100}(;descend_even)?"


# Below these, nothing of the workload's own may appear.
TAIL_OF_LIBC = r"(;(?!main\b|long_|short_|use|one_after|walk|run_)[^;]+)*"


def threads_chains(main: str, start: str, body: str) -> tuple[str, ...]:
    """`start`: what a thread's first and last steps are below; `body`: what its own function is below."""
    return (
        rf"{body};long_lived(;long_work)?",
        rf"{body};short_lived(;short_work)?",
        rf"{start}{TAIL_OF_LIBC}",
        rf"{main};one_after_the_other{TAIL_OF_LIBC}",
    )


HANDLER = r"(on_(alarm|alternate)(;handler_work)?|workload_end)"
HANDLERS = rf"({SIGNAL_FRAME}{HANDLER}){{0,4}}(;[^;]*(restore_rt|sigaction|libc)[^;]*)?"

UNNAMED = r"[^;]*split_stripped[^;]*"
LIBC_CLOCK = r"(;[^;]*(plt|clock_gettime|vdso)[^;]*){0,3}"

WORKLOADS: dict[str, Workload] = {
    "split": Workload(split_chains(GLIBC_MAIN), SPLIT_SEEN),
    "split_nopie": Workload(split_chains(GLIBC_MAIN), SPLIT_SEEN),
    "split_nobuildid": Workload(split_chains(GLIBC_MAIN), SPLIT_SEEN),
    "split_static": Workload(split_chains(GLIBC_MAIN), SPLIT_SEEN),
    "split_staticpie": Workload(split_chains(GLIBC_MAIN), SPLIT_SEEN),
    "split_musl": Workload(split_chains(MUSL_MAIN), SPLIT_SEEN, share=0.9),
    "split_musl_static": Workload(split_chains(MUSL_MAIN), SPLIT_SEEN, share=0.9),
    # Without symbols: the file and an offset, and still every frame. _start; libc; libc; main; seventy...; spin.
    "split_stripped": Workload(
        (rf"(_start|{UNNAMED});__libc_start_main[^;]*;__libc_start_call_main(;{UNNAMED}){{1,3}}{LIBC_CLOCK}",),
        (rf"{UNNAMED};{UNNAMED};{UNNAMED}$",),
    ),
    "deep": Workload((GLIBC_MAIN + DEEP_CHAIN, GLIBC_MAIN + DEEP_PARTIAL), (f"main{DEEP_CHAIN}",)),
    "threads": Workload(
        threads_chains(GLIBC_MAIN, GLIBC_CLONE, GLIBC_THREAD), ("long_lived;long_work", "short_lived;short_work")
    ),
    "threads_static": Workload(
        threads_chains(GLIBC_MAIN, GLIBC_CLONE, GLIBC_THREAD), ("long_lived;long_work", "short_lived;short_work")
    ),
    "threads_musl": Workload(
        threads_chains(MUSL_MAIN, r"(?!main\b|long_|short_)[^;]+", rf"(?:{FRAME};)?{FRAME}"),
        ("long_lived;long_work", "short_lived;short_work"),
    ),
    "signals": Workload(
        (rf"{GLIBC_MAIN}(;interrupted)?{HANDLERS}",),
        (
            "main;interrupted",
            rf"interrupted{SIGNAL_FRAME}on_alarm;handler_work",
            rf"interrupted{SIGNAL_FRAME}on_alternate;handler_work",
        ),
    ),
    "dlopen": Workload(
        (
            rf"{GLIBC_MAIN};use_a;use;plugin_entry_a(;plugin_work_a)?",
            rf"{GLIBC_MAIN};use_b;use;plugin_entry_b(;plugin_work_b)?",
            rf"{GLIBC_MAIN}(;use_[ab])?",
            rf"{GLIBC_MAIN};use_[ab];use(;(?!plugin_)[^;]+)*",
        ),
        ("plugin_entry_a;plugin_work_a", "plugin_entry_b;plugin_work_b"),
    ),
    "plt": Workload(
        (
            rf"{GLIBC_MAIN}",
            rf"{GLIBC_MAIN};hops(;(hop_one|hop_two|hop_three|{FRAME}plt[^;]*))?",
            rf"{GLIBC_MAIN};hops;hop_two;(hop_three|{FRAME}(plt|hop)[^;]*)",
            rf"{GLIBC_MAIN};sorts(;[^;]*(plt|qsort|msort|mem|alloc|free|sysconf)[^;]*)*(;compare)?",
            rf"{GLIBC_MAIN};searches(;[^;]*(plt|bsearch)[^;]*)*(;compare)?",
            rf"{GLIBC_MAIN};strings(;[^;]*(plt|mem|str)[^;]*)*",
        ),
        (
            "hops;hop_two;hop_three",
            "hops;hop_one",
            r"qsort[^;]*;[^;]*msort[^;]*;.*compare",
            r"bsearch[^;]*;compare",
            "strings;[^;]*strlen",
        ),
    ),
    "syscalls": Workload(
        (
            rf"{GLIBC_MAIN}(;call_(getppid|read|pread))?",
            rf"{GLIBC_MAIN};call_getppid;[^;]*(getppid|plt)[^;]*",
            rf"{GLIBC_MAIN};call_p?read;[^;]*(read|plt)[^;]*",
        ),
        ("call_getppid;[^;]*getppid", "call_read;[^;]*read", "call_pread;[^;]*pread"),
    ),
    "io": Workload(
        (rf"{GLIBC_MAIN}(;walk)*(;(sync_scratch|read_some))?{TAIL_OF_LIBC}",),
        ("main;walk;walk", "walk;sync_scratch"),
        # A thread that blocks within microseconds of its sample may be woken on another CPU before it is read, and this one
        # blocks with a buffer on its stack that is larger than what a sample carries.
        share=0.90,
    ),
    "shapes": Workload(
        (
            rf"{GLIBC_MAIN}{TAIL_OF_LIBC}",
            rf"{GLIBC_MAIN};zoo::run_(virtual|templates|exceptions|sort)[^;]*{TAIL}",
            rf"{GLIBC_THREAD}{TAIL_OF_LIBC}",
            rf"{GLIBC_THREAD}(;{FRAME}){{0,3}};zoo::threaded[^;]*(;[^;]*zoo::grind[^;]*)?",
            GLIBC_CLONE,
        ),
        (
            r"zoo::run_virtual[^;]*;zoo::Square::area[^;]*;[^;]*zoo::grind",
            r"zoo::run_templates[^;]*;[^;]*zoo::grind",
            r"zoo::run_exceptions[^;]*(;zoo::thrower[^;]*){6};__cxa_throw",
            r"zoo::run_sort",
            r"start_thread;.*zoo::threaded[^;]*;[^;]*zoo::grind",
        ),
    ),
    "rusty": Workload(
        (
            rf"{RUST_MAIN}{CLOCK}",
            rf"{RUST_MAIN};[^;]*rusty::run_traits[^;]*(;[^;]*rusty::[^;]*speak[^;]*)?{RUST_SPIN}",
            rf"{RUST_MAIN};[^;]*rusty::run_closures[^;]*(;[^;]*rusty::apply[^;]*)?(;[^;]*closure[^;]*)?{RUST_SPIN}",
            rf"{RUST_MAIN}(;[^;]*rusty::run_recursion[^;]*){{1,31}}{RUST_SPIN}",
            rf"{RUST_THREAD}(;[^;]*rusty::in_thread[^;]*)?{RUST_SPIN}{CLOCK}",
        ),
        (
            r"rusty::run_traits[^;]*;[^;]*speak[^;]*;rusty::spin",
            r"rusty::run_closures[^;]*;.*rusty::spin",
            r"(;[^;]*rusty::run_recursion[^;]*){31};rusty::spin",
            r"rusty::in_thread[^;]*;rusty::spin",
        ),
    ),
    "gopher": Workload(
        (
            rf"{GO_MAIN}",
            rf"{GO_MAIN}(;main\.recurse){{1,101}}(;main\.spin|(;runtime\.[^;]+)+)?",
            rf"{GO_MAIN};main\.allocate(;runtime\.[^;]+)*",
            rf"{GO_MAIN}(;(time|runtime|internal|sync|[^;]*vdso)[^;]*)+",
            rf"{GO_ROUTINE};main\.(worker|main\.gowrap1)(;main\.worker)?"
            r"(;main\.\(\*(square|circle)\)\.area)?(;main\.spin)?(;runtime\.[^;]+)*",
            # The scheduler, the collector and the signal handlers, on their own stacks.
            r"(runtime\.[^;]+)(;runtime[./][^;]+|;internal/[^;]+|;[^;]*vdso[^;]*)*",
            rf"_rt0_{FRAME}(;runtime[./][^;]+)*",
        ),
        (r"main\.main(;main\.recurse){101};main\.spin", r"main\.worker;main\.\(\*square\)\.area;main\.spin"),
    ),
    "perfmap": Workload(
        (rf"{GLIBC_MAIN}(;run_jit(;jit_outer(;jit inner: part 2)?)?)?",),
        ("main;run_jit;jit_outer;jit inner: part 2",),
    ),
    "replace": Workload(
        (rf"{GLIBC_MAIN}(;old_image(;old_work)?|;replace_file{TAIL_OF_LIBC})?",),
        ("main;old_image;old_work",),
        share=0.97,  # it writes files, as above
    ),
}
# Without a table, the first and last instruction of a function are walked as if its caller had called the one before: one frame
# of the chain is left out. That is the case of 0.4 to 0.7 % of its samples.
WORKLOADS["deep_frame_pointers"] = replace(WORKLOADS["deep"], share=0.985)
WORKLOADS["plt_ibt"] = WORKLOADS["plt"]
# Without .debug_frame there are only frame pointers: a leaf that has none loses its caller, as it does for perf.
WORKLOADS["gopher_stripped"] = replace(
    WORKLOADS["gopher"], seen=tuple(part for part in WORKLOADS["gopher"].seen if not part.endswith("spin"))
)


def is_complete(chain: str) -> bool:
    """Whether a chain reaches the place where its thread began."""
    # No user frames at all: a thread that has given its memory back already.
    return not chain or bool(ROOTS.fullmatch(chain.split(";", 1)[0]))

# Where musl calls into the vDSO, its own frame without a table ends the stack: more of the samples the slower the clock is.
for _name in ("split_musl", "split_musl_static"):
    if _name in WORKLOADS:
        WORKLOADS[_name] = replace(WORKLOADS[_name], share=0.85)
