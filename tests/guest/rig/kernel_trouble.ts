/**
 * What a console shows when the kernel behind it is no more, or is another than
 * before: a panic, a debugger, a boot that nobody asked for.
 *
 * Texts are those of FreeBSD's `kern_shutdown.c` (`vpanic`, `shutdown_panic`),
 * `trap.c`, `subr_kdb.c` and `db_input.c`, and of Linux's `panic.c`.
 *
 * @module
 */

import type { Console } from "../../support/console.ts";

/**
 * Ends of a FreeBSD kernel. A message may come behind a prompt that has been
 * taken already.
 */
export const FREEBSD_TROUBLE: readonly RegExp[] = [
  /(?<=^|[#$] )panic: .*\n/m,
  /^Fatal (?:trap \d+|double fault).*\n/m,
  /^KDB: enter: .*\n/m,
  /^db> ?$/m,
];

/** Ends of a Linux kernel. */
export const LINUX_TROUBLE: readonly RegExp[] = [/Kernel panic - .*\n/];

/** What a guest asks only while it boots, or says then. */
export const REBOOTED: readonly RegExp[] = [
  /\blogin: $/,
  /Enter (?:full )?pathname of shell or RETURN for /,
  /mountroot> $/,
  /^@@BOOT .*\n/m,
];

/** What is said of a guest that has only booted. */
export const BOOTED_ANEW = "the guest has booted anew, which nobody asked for";

/** In words; `null` for a text that is none of these. */
export function troubleIn(text: string): string | null {
  const first = (pattern: RegExp) => pattern.exec(text)?.[0].trim();
  const panic = first(/(?<=^|[#$\]] )(?:Kernel )?panic(?::| - ).*/m);
  if (panic !== undefined) return `the kernel panicked: ${panic}`;
  const fault = first(/^Fatal (?:trap|double fault).*/m);
  if (fault !== undefined) return `the kernel panicked: ${fault}`;
  if (/^KDB: enter: |^db> ?$/m.test(text)) {
    return "the kernel is in its debugger";
  }
  if (REBOOTED.some((pattern) => pattern.test(text))) return BOOTED_ANEW;
  return null;
}

/** Where the words of a dying FreeBSD kernel end. */
const LAST_WORDS = [
  /^db> ?$/m,
  /Automatic reboot in \d+ seconds/,
  /[Pp]ress (?:a|any) key/,
];

/**
 * Waits for what a kernel still says of its end; a debugger is asked for a
 * backtrace. Nothing of it must come.
 *
 * @param timeout milliseconds for each wait
 */
export async function lastWords(
  console: Console,
  timeout: number,
): Promise<void> {
  console.configure({ failOn: [] });
  try {
    const found = await console.tryExpect(LAST_WORDS, { timeout });
    if (found?.index !== 0) return;
    for (const line of ["set $lines=0", "bt"]) {
      await console.sendLine(line);
      await console.tryExpect(/^db> ?$/m, { timeout });
    }
  } catch {
    // The console has ended as well.
  }
}
