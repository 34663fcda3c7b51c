/**
 * Filters of system calls, as containers have them.
 *
 * @module
 */

import { errno, systemError } from "../errno.ts";

const SYMBOLS = {
  // int prctl(int option, unsigned long arg2, unsigned long arg3,
  //           unsigned long arg4, unsigned long arg5);
  prctl: { parameters: ["i32", "u64", "u64", "u64", "u64"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

/** Number of io_uring_setup(2), of all architectures. */
export const IO_URING_SETUP = 425;

const PR_SET_SECCOMP = 22, PR_SET_NO_NEW_PRIVS = 38;
const SECCOMP_MODE_FILTER = 2n;
const SECCOMP_RET_ERRNO = 0x5_0000, SECCOMP_RET_ALLOW = 0x7fff_0000;
/** Classic BPF: load a word, jump if equal, jump if greater, return. */
const LOAD = 0x20, EQUAL = 0x15, GREATER = 0x25, RETURN = 0x06;

/**
 * Lets a system call of this thread fail, without being made; that goes for the
 * threads and processes that it makes from now on, and for what it executes. There
 * is no way back.
 *
 * C: `int prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, struct sock_fprog *prog);`
 *
 * @param number of the system call
 * @param error what it fails with
 * @param argument index of one that is looked at: it fails where that is not 0
 * @param value it fails where the argument is this
 * @throws {SystemError} where filters are forbidden themselves
 */
export function forbidSystemCall(
  number: number,
  error: number,
  argument?: number,
  value?: number,
): void {
  // struct seccomp_data { int nr; __u32 arch; __u64 instruction_pointer;
  //                       __u64 args[6]; };
  const program = [
    [LOAD, 0, 0, 0],
    [EQUAL, 0, argument === undefined ? 1 : 3, number],
    ...(argument === undefined ? [] : [
      [LOAD, 0, 0, 16 + 8 * argument],
      value === undefined ? [GREATER, 0, 1, 0] : [EQUAL, 0, 1, value],
    ]),
    [RETURN, 0, 0, SECCOMP_RET_ERRNO | error],
    [RETURN, 0, 0, SECCOMP_RET_ALLOW],
  ];
  // struct sock_filter { __u16 code; __u8 jt; __u8 jf; __u32 k; };
  const code = new Uint8Array(8 * program.length);
  const view = new DataView(code.buffer);
  for (const [i, [operation, yes, no, k]] of program.entries()) {
    view.setUint16(8 * i, operation, true);
    view.setUint8(8 * i + 2, yes);
    view.setUint8(8 * i + 3, no);
    view.setUint32(8 * i + 4, k, true);
  }
  // struct sock_fprog { unsigned short len; struct sock_filter *filter; };
  const filter = new BigUint64Array(2);
  filter[0] = BigInt(program.length);
  filter[1] = Deno.UnsafePointer.value(Deno.UnsafePointer.of(code));
  const at = Deno.UnsafePointer.value(Deno.UnsafePointer.of(filter));
  const library = Deno.dlopen("libc.so.6", SYMBOLS);
  const { prctl } = library.symbols;
  if (
    prctl(PR_SET_NO_NEW_PRIVS, 1n, 0n, 0n, 0n) !== 0 ||
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, at, 0n, 0n) !== 0
  ) throw systemError(errno(), "prctl(PR_SET_SECCOMP)", String(number));
}
