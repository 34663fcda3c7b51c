/**
 * Executes a command, in the place of this process, that cannot have io_uring:
 * the calls of it and of all its children fail with EPERM, as in containers.
 *
 * `deno run -A without_io_uring.ts COMMAND [ARGUMENT]…`, the command with its
 * path.
 *
 * @module
 */

import { Errno, errno, systemError } from "../errno.ts";
import { cString } from "../libc.ts";
import { forbidSystemCall, IO_URING_SETUP } from "./system_call_filter.ts";

/** Words to put before a command. */
export const WITHOUT_IO_URING: readonly string[] = [
  Deno.execPath(),
  ...["run", "--quiet", "--allow-all", "--no-lock"],
  new URL(import.meta.url).pathname,
];

/**
 * Executes a program in the place of this process.
 *
 * C: `int execv(const char *pathname, char *const argv[]);`
 *
 * @throws {SystemError} `ENOENT`, `EACCES` …
 */
function execute(command: readonly string[]): never {
  const library = Deno.dlopen("libc.so.6", {
    execv: { parameters: ["buffer", "buffer"], result: "i32" },
  });
  const words = command.map(cString);
  const argv = new BigUint64Array(words.length + 1);
  for (const [i, word] of words.entries()) {
    argv[i] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(word));
  }
  library.symbols.execv(words[0], argv);
  throw systemError(errno(), "execv", command[0]);
}

if (import.meta.main) {
  forbidSystemCall(IO_URING_SETUP, Errno.EPERM);
  execute(Deno.args);
}
