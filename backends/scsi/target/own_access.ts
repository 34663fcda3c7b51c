/**
 * For commands whose fields decide whether a reservation lets them run.
 *
 * @module
 */

import { ACCESS_WRITE } from "./command.ts";
import type { Task } from "./task.ts";

/** Whether a reservation keeps the command out as if it wrote. */
export function conflictsAsWrite(task: Task): boolean {
  const { nexus, command } = task;
  const { reservations } = nexus.unit;
  return reservations.active &&
    reservations.conflicts(nexus.initiator, {
      ...command!,
      access: ACCESS_WRITE,
    });
}
