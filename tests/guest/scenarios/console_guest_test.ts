/** A guest behind a console, here a shell that says what FreeBSD says. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { Console, ConsoleError } from "../../support/console.ts";
import { RigError } from "../rig/error.ts";
import { FREEBSD_TROUBLE } from "../rig/kernel_trouble.ts";
import { ConsoleGuest } from "./console_guest.ts";
import { freeBsd } from "./freebsd.ts";

const SHELL = "ENV= PS1='# ' sh -i 2>&1;";

/** Commands that end the machine, as shell functions. */
const BOOT = `
echo 'Copyright (c) 1992-2025 The FreeBSD Project.'
printf 'Enter full pathname of shell or RETURN for /bin/sh: '; read -r shell
`;

async function boot(script: string): Promise<ConsoleGuest> {
  const console = Console.spawn("sh", {
    args: ["-c", script],
    name: "freebsd",
  });
  const guest = new ConsoleGuest({
    console,
    messages: "",
    close: () => console.close(),
    wait: async () => {
      await console.closed;
      return 0;
    },
  }, {
    system: freeBsd("blk"),
    dialogue: { timeout: 20_000, quiet: 5_000, answer: 2_000 },
    setup: [],
    timeout: 20_000,
    room: "echo ROOM /tmp /mnt",
    // The shell ends; what is behind it in the script goes on.
    stop: () => "exit",
    banner: /Copyright \(c\) 1992-\d+ The FreeBSD Project\./,
    trouble: FREEBSD_TROUBLE,
    lastWords: 1_000,
  });
  await guest.boot();
  return guest;
}

Deno.test("guest: a panic is told at once, with the backtrace of the debugger", async () => {
  await using guest = await boot(`
    ${BOOT}
    ${SHELL}
    echo 'panic: vtblk_poll_request: polling completion failed'
    echo 'cpuid = 0'; echo 'KDB: enter: panic'; printf 'db> '
    while read -r line; do
      [ "$line" = bt ] && echo 'vtblk_dump() at vtblk_dump+0x1'; printf '\\ndb> '
    done`);
  assertEquals(await guest.check("echo $((6 * 7))"), "42");
  const error = await assertRejects(() => guest.run("exit"), ConsoleError);
  assertEquals(error.kind, "failed");
  const [first] = error.message.split(";");
  assertEquals(
    first,
    "freebsd: the kernel panicked: panic: vtblk_poll_request: polling " +
      "completion failed",
  );
  assert(error.message.includes("vtblk_dump+0x1"), error.message);
  assert(error.transcriptPath !== null);
  assertEquals(await guest.answers(), false);
});

Deno.test("guest: a reboot that nobody asked for is told at once", async () => {
  await using guest = await boot(`${BOOT} ${SHELL} ${BOOT}`);
  const error = await assertRejects(() => guest.run("exit"), ConsoleError);
  assert(error.message.includes("has booted anew"), error.message);
  assertEquals(await guest.answers(), false);
});

Deno.test("guest: a reboot that was asked for gives a shell again", async () => {
  await using guest = await boot(`${BOOT} ${SHELL} ${BOOT} ${SHELL}`);
  await guest.reboot();
  assertEquals(guest.kind, "single-user");
  assertEquals(await guest.check("echo again"), "again");
});

Deno.test("guest: a kernel that panics on its way up is no boot", async () => {
  await assertRejects(
    () => boot("echo 'panic: no init'; cat"),
    ConsoleError,
    "the kernel panicked: panic: no init",
  );
});

Deno.test("guest: the power is off, or the kernel waits for a key", async () => {
  {
    await using guest = await boot(`${BOOT} ${SHELL}`);
    assertEquals(await guest.powerOff(), { switchedOff: true, code: 0 });
  }
  await using guest = await boot(`
    ${BOOT} ${SHELL}
    echo; echo 'The operating system has halted.'
    echo 'Please press any key to reboot.'; cat`);
  assertEquals(await guest.powerOff(), { switchedOff: false, code: 0 });
});

Deno.test("guest: a power off that the kernel does not survive is a failure", async () => {
  await using guest = await boot(`
    ${BOOT} ${SHELL}
    echo 'panic: vm_fault failed'; cat`);
  await assertRejects(
    () => guest.powerOff(),
    ConsoleError,
    "the kernel panicked: panic: vm_fault failed",
  );
});

Deno.test("guest: a power off that turns into a reboot is a failure", async () => {
  await using guest = await boot(`
    ${BOOT} ${SHELL}
    printf '\\nlogin: '; ${BOOT}`);
  await assertRejects(
    () => guest.powerOff(),
    RigError,
    'did not power off, but said "Copyright (c) 1992-2025',
  );
});

Deno.test("guest: one that has ended does not answer", async () => {
  await using guest = await boot(`${BOOT} ${SHELL}`);
  assertEquals(await guest.answers(), true);
  await assertRejects(() => guest.run("exit"), ConsoleError);
  assertEquals(await guest.answers(), false);
  assert(guest.lastLines.length > 0);
});
