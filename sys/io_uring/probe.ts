/**
 * What the io_uring of the running kernel can do.
 *
 * @module
 */

import { Arena } from "../arena.ts";
import { check } from "../errno.ts";
import { IO_URING_OP_SUPPORTED, IORING_REGISTER_PROBE } from "./constants.ts";
import { registerWith } from "./register.ts";

/** The most operations that a probe tells of. */
const OPERATIONS = 256;
/** Bytes of a `struct io_uring_probe` and of each `io_uring_probe_op` in it. */
const PROBE_BYTES = 16, OPERATION_BYTES = 8;

/** The operations that a ring knows. */
export class Operations {
  readonly #known: Uint8Array;

  /** Takes a byte for each operation, from number 0: not 0 if it is known. */
  constructor(known: Uint8Array) {
    this.#known = known;
  }

  /** Whether the kernel knows an operation, one of `IORING_OP_*`. */
  supports(opcode: number): boolean {
    return this.#known[opcode] === 1;
  }
}

/**
 * Asks the kernel which operations it knows.
 *
 * C: `int io_uring_register(unsigned int fd, IORING_REGISTER_PROBE,
 * struct io_uring_probe *probe, unsigned int nr_ops);`
 *
 * @param ring descriptor of a ring
 */
export function probeOperations(ring: number): Operations {
  using arena = new Arena(PROBE_BYTES + OPERATION_BYTES * OPERATIONS);
  check(
    registerWith(ring, IORING_REGISTER_PROBE, arena, OPERATIONS),
    "io_uring_register(PROBE)",
  );
  const known = new Uint8Array(OPERATIONS);
  // struct io_uring_probe { u8 last_op; u8 ops_len; ...; ops[] };
  // struct io_uring_probe_op { u8 op; u8 resv; u16 flags; u32 resv2 }
  const length = arena.u8[1];
  for (let i = 0; i < length; i++) {
    const at = PROBE_BYTES + OPERATION_BYTES * i;
    const flags = arena.view.getUint16(at + 2, true);
    known[arena.u8[at]] = flags & IO_URING_OP_SUPPORTED;
  }
  return new Operations(known);
}
