/**
 * All scenarios, in the order in which they are run; the last one ends the guest.
 *
 * @module
 */

import { ATTACH } from "./attach.ts";
import type { Scenario } from "./context.ts";
import { DISKS } from "./disk.ts";
import { LIFE } from "./life.ts";
import { NETWORK } from "./network.ts";

/** All scenarios. */
export const SCENARIOS: readonly Scenario[] = [
  ...ATTACH,
  ...DISKS,
  ...NETWORK,
  ...LIFE,
];
