/** What dying kernels print, from their sources, is what is looked for. */

import { assert, assertEquals } from "@std/assert";
import { Console } from "../../support/console.ts";
import {
  FREEBSD_TROUBLE,
  lastWords,
  LINUX_TROUBLE,
  REBOOTED,
  troubleIn,
} from "./kernel_trouble.ts";

const some = (patterns: readonly RegExp[], text: string): boolean =>
  patterns.some((pattern) => pattern.test(text));

/** vpanic() with KDB and DDB, as GENERIC of a development branch has them. */
const PANIC = `panic: vtblk_poll_request: polling completion failed
cpuid = 0
time = 1764000000
KDB: stack backtrace:
db_trace_self_wrapper() at db_trace_self_wrapper+0x2b/frame 0xfffffe00
vpanic() at vpanic+0x136/frame 0xfffffe00
KDB: enter: panic
[ thread pid 1 tid 100002 ]
Stopped at      kdb_enter+0x33: movq    $0,0x1234567(%rip)
db> `;

/** A page fault of a release, which reboots by itself. */
const TRAP = `Fatal trap 12: page fault while in kernel mode
cpuid = 0; apic id = 00
fault virtual address   = 0x0
panic: page fault
Uptime: 12s
Automatic reboot in 15 seconds - press a key on the console to abort
`;

Deno.test("trouble: a panic of FreeBSD, at a line's begin or behind a prompt", () => {
  assert(some(FREEBSD_TROUBLE, PANIC));
  assert(some(FREEBSD_TROUBLE, "guest# panic: page fault\n"));
  assertEquals(
    troubleIn(`vtbd0: read\nguest# ${PANIC}`),
    "the kernel panicked: panic: vtblk_poll_request: polling completion failed",
  );
  assertEquals(troubleIn(TRAP), "the kernel panicked: panic: page fault");
});

Deno.test("trouble: a trap, a double fault, the debugger", () => {
  for (
    const text of [
      "Fatal trap 9: general protection fault while in kernel mode\n",
      "Fatal double fault\nrip 0x1\n",
      "KDB: enter: Break to debugger\n",
      "\ndb> ",
    ]
  ) {
    assert(some(FREEBSD_TROUBLE, text), text);
    assert(troubleIn(text) !== null, text);
  }
  assertEquals(
    troubleIn("KDB: enter: Break to debugger\n[ thread pid 11 ]\ndb> "),
    "the kernel is in its debugger",
  );
});

Deno.test("trouble: a panic of Linux", () => {
  const text = "[    5.1] Kernel panic - not syncing: VFS: Unable to mount\n";
  assert(some(LINUX_TROUBLE, text));
  assertEquals(
    troubleIn(text),
    "the kernel panicked: Kernel panic - not syncing: VFS: Unable to mount",
  );
  const other = "guest# Kernel panic - not syncing: sysrq triggered crash\n";
  assertEquals(
    troubleIn(other),
    "the kernel panicked: Kernel panic - not syncing: sysrq triggered crash",
  );
});

Deno.test("trouble: a boot that nobody asked for", () => {
  const boots = [
    "\nFreeBSD/amd64 (freebsd) (ttyu0)\n\nlogin: ",
    "\nEnter full pathname of shell or RETURN for /bin/sh: ",
    "Mounting from ufs:/dev/vtbd0 failed with error 19.\n\nmountroot> ",
    "@@BOOT 1.92\n",
  ];
  for (const text of boots) {
    assert(some(REBOOTED, text), text);
    assertEquals(
      troubleIn(text),
      "the guest has booted anew, which nobody asked for",
    );
  }
});

Deno.test("trouble: what commands print is none", () => {
  // dmesg of a second boot, sysctl, a verbose attach.
  const text = `---<<BOOT>>---
Copyright (c) 1992-2025 The FreeBSD Project.
vtblk0: <VirtIO Block Adapter> on virtio_pci0
debug.debugger_on_panic: 0
kern.panic_reboot_wait_time: 15
last login: root on ttyu0
Trying to mount root from ufs:/dev/vtbd0 []...
guest# `;
  const all = [...FREEBSD_TROUBLE, ...LINUX_TROUBLE, ...REBOOTED];
  assert(!some(all, text));
  assertEquals(troubleIn(text), null);
});

Deno.test("trouble: the debugger is asked for a backtrace", async () => {
  await using console = Console.spawn("sh", {
    args: [
      "-c",
      `printf 'cpuid = 0\\ndb> '; IFS=; while read -r line; do
        echo "you typed: $line"; printf '\\ndb> '; done`,
    ],
    failOn: FREEBSD_TROUBLE,
  });
  await lastWords(console, 5_000);
  const { output } = console;
  assert(output.includes("you typed: set $lines=0"), output);
  assert(output.includes("you typed: bt"), output);
});

Deno.test("trouble: a kernel that reboots by itself is asked for nothing", async () => {
  await using console = Console.spawn("sh", {
    args: ["-c", `printf '%s' "$TRAP"; cat`],
    env: { TRAP },
    failOn: FREEBSD_TROUBLE,
  });
  await lastWords(console, 5_000);
  assert(!console.transcript.includes("⟦"));
  assert(console.output.includes("Automatic reboot in 15"), console.output);
});
