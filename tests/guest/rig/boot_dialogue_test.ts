/**
 * Consoles that end in a real shell; before it they print what FreeBSD's
 * `init.c`, getty(8), login(1), loader(8) and kernel print.
 */

import { assertEquals, assertRejects } from "@std/assert";
import { Console } from "../../support/console.ts";
import {
  type BootDialogueOptions,
  type ConsoleKind,
  reachShell,
} from "./boot_dialogue.ts";
import { RigError } from "./error.ts";

const KERNEL = `
echo 'Copyright (c) 1992-2025 The FreeBSD Project.'
echo 'vtblk0: <VirtIO Block Adapter> on virtio_pci0'
echo 'vtblk0: 1024MB (2097152 512 byte sectors)'
echo 'Trying to mount root from ufs:/dev/vtbd0 []...'
`;

const QUESTION = "Enter full pathname of shell or RETURN for /bin/sh: ";

/** A shell as sh(1) is for root. */
const SHELL = "ENV= PS1='# ' exec sh -i 2>&1";

async function dialogue(
  script: string,
  options: Partial<BootDialogueOptions> = {},
): Promise<ConsoleKind> {
  await using console = Console.spawn("sh", {
    args: ["-c", KERNEL + script],
    name: "freebsd",
  });
  const kind = await reachShell(console, {
    timeout: 20_000,
    quiet: 5_000,
    answer: 2_000,
    ...options,
  });
  assertEquals(await console.check("echo $((6 * 7))"), "42");
  return kind;
}

async function fails(script: string, message: string): Promise<void> {
  const error = await assertRejects(() => dialogue(script), RigError, message);
  assertEquals(error.kind, "guest");
}

Deno.test("dialogue: a shell on the console", async () => {
  assertEquals(await dialogue(SHELL), "shell");
});

Deno.test("dialogue: single user gets /rescue/sh", async () => {
  const kind = await dialogue(`
    printf '${QUESTION}'; read -r shell
    [ "$shell" = /rescue/sh ] || exit 1
    ${SHELL}`);
  assertEquals(kind, "single-user");
});

Deno.test("dialogue: a message of the kernel behind the question", async () => {
  const kind = await dialogue(`
    printf '${QUESTION}vtnet0: link state changed to UP\\n'
    read -r shell; [ "$shell" = /rescue/sh ] || exit 1
    ${SHELL}`);
  assertEquals(kind, "single-user");
});

Deno.test("dialogue: a shell that is not there is asked for again", async () => {
  const kind = await dialogue(`
    printf '${QUESTION}'; read -r shell
    echo "init 20 - - can't exec $shell for single user: No such file or directory"
    printf '${QUESTION}'; read -r shell
    ${SHELL}`);
  assertEquals(kind, "single-user");
});

Deno.test("dialogue: root logs in without a password", async () => {
  const kind = await dialogue(`
    printf '\\nFreeBSD/amd64 (freebsd) (ttyu0)\\n\\nlogin: '; read -r name
    [ "$name" = root ] || exit 1
    echo 'FreeBSD 15.0-RELEASE (GENERIC) releng/15.0'
    echo 'Welcome to FreeBSD!'
    ENV= PS1='root@freebsd:~ # ' exec sh -i 2>&1`);
  assertEquals(kind, "login");
});

Deno.test("dialogue: a message behind the login prompt, and silence", async () => {
  const kind = await dialogue(
    `
    printf '\\nlogin: Jan  1 00:00:00 freebsd kernel: da1 at vtscsi0 bus 0\\n'
    read -r nothing; [ -z "$nothing" ] || exit 1
    printf 'login: '; read -r name; [ "$name" = root ] || exit 1
    ${SHELL}`,
    { quiet: 300 },
  );
  assertEquals(kind, "login");
});

Deno.test("dialogue: a password is given, or asked for in vain", async () => {
  const script = `
    printf 'login: '; read -r name; printf 'Password:'; read -r word
    [ "$word" = secret ] || { echo 'Login incorrect'; exit 1; }
    ${SHELL}`;
  assertEquals(await dialogue(script, { password: "secret" }), "login");
  await fails(script, '"root" has a password');
});

Deno.test("dialogue: csh hands over to sh", async () => {
  const kind = await dialogue(`
    printf 'login: '; read -r name
    printf 'root@freebsd:~ # '; read -r line
    case "$line" in *'-$?version-') ;; *) exit 1;; esac
    echo '@@SHELL-1-1-'
    printf 'root@freebsd:~ # '; read -r line
    [ "$line" = 'exec /bin/sh' ] || exit 1
    ${SHELL}`);
  assertEquals(kind, "login");
});

Deno.test("dialogue: what looks like a prompt and is none costs a moment", async () => {
  const kind = await dialogue(
    `
    printf 'Loading configured modules... 100 %% '; sleep 1; echo done
    printf '${QUESTION}'; read -r probe; echo "can't exec $probe"
    printf '${QUESTION}'; read -r shell; [ "$shell" = /rescue/sh ] || exit 1
    ${SHELL}`,
    { answer: 300 },
  );
  assertEquals(kind, "single-user");
});

Deno.test("dialogue: the boot loader is told of the serial console", async () => {
  const menu = `
    printf '  3. Escape to loader prompt\\n  Autoboot in 10 seconds. [Space] to pause '
    key=$(dd bs=1 count=1 2>/dev/null); [ "$key" = 3 ] || exit 1
    printf '\\nOK '; line=$(dd bs=1 count=8 2>/dev/null)
    [ "$(printf %s "$line" | tr -d '\\r')" = 'boot -h' ] || exit 1
    ${SHELL}`;
  assertEquals(await dialogue(menu, { loader: true }), "shell");
});

Deno.test("dialogue: a boot loader without a kernel is not waited for", async () => {
  await assertRejects(
    () =>
      dialogue(
        `echo "can't load 'kernel'"; printf 'OK '
        while read -r line; do printf '\\nOK '; done`,
        { quiet: 100 },
      ),
    RigError,
    "the boot loader does not boot",
  );
});

Deno.test("dialogue: a boot loader that is not asked for is left alone", async () => {
  const kind = await dialogue(`
    printf '  Autoboot in 10 seconds. [Space] to pause\\n'
    printf '${QUESTION}'; read -r shell; [ "$shell" = /rescue/sh ] || exit 1
    ${SHELL}`);
  assertEquals(kind, "single-user");
});

/** parse_dir_ask() of vfs_mountroot.c, with a disk that has one partition. */
const MOUNTROOT = `
  echo 'Loader variables:'
  echo '  vfs.root.mountfrom=ufs:/dev/vtbd0'
  while :; do
    printf '\\nmountroot> '; read -r answer || exit 1
    case "$answer" in
      '?') printf '\\nList of GEOM managed disk devices:\\n  vtbd0p2 vtbd0p1 vtbd0\\n\\n';;
      '') echo 'panic: mountroot: unable to (re-)mount root.'; exit 1;;
      ufs:/dev/vtbd0p2) break;;
      *) echo "Trying to mount root from $answer []..."
         echo "Mounting from $answer failed with error 22: unknown.";;
    esac
  done
  echo 'Trying to mount root from ufs:/dev/vtbd0p2 []...'
`;

Deno.test("dialogue: no root file system says what would be right", async () => {
  await fails(
    MOUNTROOT,
    "vfs.root.mountfrom=ufs:/dev/vtbd0, say, in FREEBSD_KERNEL_ARGS",
  );
  // And which disks there are.
  await fails(MOUNTROOT, "vtbd0p2 vtbd0p1 vtbd0");
  await fails("printf 'KDB: enter: panic\\ndb> '; read -r x", "debugger");
});

Deno.test("dialogue: a kernel that asks for its root is told where it may be", async () => {
  const script = `${MOUNTROOT}
    printf '${QUESTION}'; read -r shell; [ "$shell" = /rescue/sh ] || exit 1
    ${SHELL}`;
  const roots = ["ufs:/dev/vtbd0", "ufs:/dev/vtbd0p2", "ufs:/dev/vtbd0p3"];
  assertEquals(await dialogue(script, { roots }), "single-user");
  const error = await assertRejects(
    () => dialogue(script, { roots: roots.slice(0, 1) }),
    RigError,
  );
  assertEquals(error.message.includes("found no root file system"), true);
});

Deno.test("dialogue: a kernel that waits for its root is not answered", async () => {
  // A line end would be taken for one at the next question.
  const kind = await dialogue(
    `
    printf '\\nmountroot> '; read -r answer
    echo "Trying to mount root from $answer []..."
    echo "mountroot: waiting for device /dev/vtbd0..."
    sleep 1; echo "Mounting from $answer failed with error 19."
    printf '\\nmountroot> '; read -r answer
    [ "$answer" = ufs:/dev/vtbd0p2 ] || exit 1
    printf '${QUESTION}'; read -r shell
    ${SHELL}`,
    { roots: ["ufs:/dev/vtbd0", "ufs:/dev/vtbd0p2"], quiet: 200 },
  );
  assertEquals(kind, "single-user");
});

Deno.test("dialogue: the question for a shell as older releases put it", async () => {
  const kind = await dialogue(`
    printf 'Enter pathname of shell or RETURN for sh: '; read -r shell
    [ "$shell" = /rescue/sh ] || exit 1
    ${SHELL}`);
  assertEquals(kind, "single-user");
});

Deno.test("dialogue: a console that falls silent is not waited for to the end", async () => {
  await assertRejects(
    () => dialogue("while read -r x; do :; done", { quiet: 100, silence: 500 }),
    RigError,
    "not a word for 500 ms; its last lines:\nCopyright",
  );
});

Deno.test("dialogue: questions without end come to one", async () => {
  await fails(
    `while :; do printf '\\n${QUESTION}'; read -r x; done`,
    "again and again",
  );
  await fails(
    `while :; do printf '\\nlogin: '; read -r x; echo 'Login incorrect'; done`,
    '"root" cannot log in',
  );
});

Deno.test("dialogue: nothing comes within the limit", async () => {
  await assertRejects(
    () => dialogue("while read -r x; do :; done", { timeout: 700, quiet: 100 }),
    RigError,
    "no login prompt, question for a shell, or shell within 700 ms",
  );
});
