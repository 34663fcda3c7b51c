/**
 * All commands, by operation code.
 *
 * @module
 */

import type { CommandSpec } from "./command.ts";
import { DISC_COMMANDS } from "./mmc_disc.ts";
import { CACHE_COMMANDS } from "./sbc_cache.ts";
import { CAPACITY_COMMANDS } from "./sbc_capacity.ts";
import { COMPARE_COMMANDS } from "./sbc_compare.ts";
import { PROVISIONING_COMMANDS } from "./sbc_provisioning.ts";
import { START_COMMANDS } from "./sbc_start.ts";
import { TRANSFER_COMMANDS } from "./sbc_transfer.ts";
import { VERIFY_COMMANDS } from "./sbc_verify.ts";
import { WRITE_SAME_COMMANDS } from "./sbc_write_same.ts";
import { BASIC_COMMANDS } from "./spc_basic.ts";
import { INQUIRY_COMMANDS } from "./spc_inquiry.ts";
import { LOG_COMMANDS } from "./spc_log.ts";
import { MODE_COMMANDS } from "./spc_mode.ts";
import { PERSISTENT_IN_COMMANDS } from "./spc_persistent_in.ts";
import { PERSISTENT_OUT_COMMANDS } from "./spc_persistent_out.ts";
import { REPORT_COMMANDS } from "./spc_report.ts";
import { RESERVE_COMMANDS } from "./spc_reserve.ts";

/** All commands of all kinds of logical units, by ascending operation code. */
export const COMMANDS: readonly CommandSpec[] = [
  ...BASIC_COMMANDS,
  ...CACHE_COMMANDS,
  ...CAPACITY_COMMANDS,
  ...COMPARE_COMMANDS,
  ...DISC_COMMANDS,
  ...INQUIRY_COMMANDS,
  ...LOG_COMMANDS,
  ...MODE_COMMANDS,
  ...PERSISTENT_IN_COMMANDS,
  ...PERSISTENT_OUT_COMMANDS,
  ...PROVISIONING_COMMANDS,
  ...REPORT_COMMANDS,
  ...RESERVE_COMMANDS,
  ...START_COMMANDS,
  ...TRANSFER_COMMANDS,
  ...VERIFY_COMMANDS,
  ...WRITE_SAME_COMMANDS,
].sort((a, b) =>
  a.opcode - b.opcode || (a.serviceAction ?? 0) - (b.serviceAction ?? 0)
);

const once: readonly boolean[] = Array.from(
  { length: 256 },
  (_, opcode) => COMMANDS.some((c) => c.opcode === opcode && c.once === true),
);

/**
 * Whether doing a command twice may differ from doing it once. One that was in
 * flight when a target died must not be done again by its successor: it is to be
 * answered with ABORTED COMMAND, and a unit attention condition.
 *
 * @example Usage
 * ```ts
 * import { mustNotReplay } from "./commands.ts";
 * import { assertEquals } from "@std/assert";
 *
 * assertEquals(mustNotReplay(Uint8Array.of(0x89)), true); // COMPARE AND WRITE
 * assertEquals(mustNotReplay(Uint8Array.of(0x2a)), false); // WRITE (10)
 * ```
 */
export function mustNotReplay(cdb: Uint8Array): boolean {
  return once[cdb[0]];
}
