/**
 * Signals that interrupt the system calls of other threads.
 *
 * @module
 */

import { within } from "./within.ts";

const SIGUSR1 = 10;

/**
 * Waits until a thread of this process sleeps in a system call, interrupts it
 * by a signal with a handler, and waits until it sleeps again.
 *
 * @param thread its id
 * @param asleep judges /proc/self/task/THREAD/syscall, by words: the number of
 * the call, and its arguments in hexadecimal
 */
export async function interrupt(
  thread: number,
  asleep: (call: string[]) => boolean,
): Promise<void> {
  const kernel = Deno.dlopen("libc.so.6", {
    // int tgkill(pid_t tgid, pid_t tid, int sig);
    tgkill: { parameters: ["i32", "i32", "i32"], result: "i32" },
  });
  const handled = Promise.withResolvers<void>();
  const handler = (): void => handled.resolve();
  Deno.addSignalListener("SIGUSR1", handler);
  try {
    await within("sleep", sleeping(thread, asleep));
    if (kernel.symbols.tgkill(Deno.pid, thread, SIGUSR1) !== 0) {
      throw new Error(`Cannot signal thread ${thread}`);
    }
    await within("signal", handled.promise);
    await within("sleep again", sleeping(thread, asleep));
  } finally {
    Deno.removeSignalListener("SIGUSR1", handler);
    kernel.close();
  }
}

async function sleeping(
  thread: number,
  asleep: (call: string[]) => boolean,
): Promise<void> {
  const path = `/proc/self/task/${thread}/syscall`;
  while (!asleep((await Deno.readTextFile(path)).trim().split(" "))) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
