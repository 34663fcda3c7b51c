/**
 * START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL.
 *
 * Source: SBC-4 and MMC-6, the commands of these names.
 *
 * @module
 */

import { STORAGE_FLUSH } from "../../storage/storage.ts";
import {
  ACCESS_OWN,
  type CommandSpec,
  defineCommand,
  UNIT_MEDIA,
} from "./command.ts";
import { Asc, Op, SenseKey } from "./constants.ts";
import { MediaEvent } from "./nexus.ts";
import { prepareRange, type Script, scripted } from "./script.ts";
import { failStorage } from "./storage_sense.ts";
import type { Task } from "./task.ts";
import { conflictsAsWrite } from "./own_access.ts";

const START = 0x01, LOEJ = 0x02, NO_FLUSH = 0x04;

function* startStop(task: Task): Script {
  const { cdb, nexus } = task;
  const { unit } = nexus;
  const start = (cdb[4] & START) !== 0, eject = (cdb[4] & LOEJ) !== 0;
  const condition = cdb[4] >> 4;
  if (!(start && condition === 0) && conflictsAsWrite(task)) {
    return task.conflict();
  }
  // Power conditions: there is but the active one (1).
  if (condition > 1) return task.illegalField(4, 7);
  if (condition === 1) return task.good();
  if (eject && !unit.options.removable) return task.illegalField(4, 1);
  if (!start) {
    if (eject && unit.removalPrevented) {
      return task.fail({
        key: SenseKey.ILLEGAL_REQUEST,
        asc: Asc.MEDIUM_REMOVAL_PREVENTED,
      });
    }
    const ready = unit.loaded && !unit.ejected && nexus.storage !== null;
    if (ready && !unit.writeProtected && (cdb[4] & NO_FLUSH) === 0) {
      prepareRange(task, 0, 0);
      const result = yield STORAGE_FLUSH;
      if (result < 0) return failStorage(task, true, -result);
    }
    if (eject) {
      unit.ejected = true;
      for (const each of unit.nexuses) {
        each.mediaEvent = MediaEvent.MEDIA_REMOVAL;
      }
    } else unit.stopped = true;
    return task.good();
  }
  if (eject && unit.ejected) {
    unit.ejected = false;
    unit.loads++;
    unit.raise(Asc.NOT_READY_TO_READY_CHANGE_MEDIUM_MAY_HAVE_CHANGED, nexus);
    for (const each of unit.nexuses) each.mediaEvent = MediaEvent.NEW_MEDIA;
  }
  if (unit.stopped) unit.starts++;
  unit.stopped = false;
  if (!unit.loaded) {
    return task.fail({ key: SenseKey.NOT_READY, asc: Asc.MEDIUM_NOT_PRESENT });
  }
  task.good();
}

function preventAllow(task: Task): void {
  const { nexus } = task;
  const prevent = task.cdb[4] & 3;
  if (prevent !== 0 && conflictsAsWrite(task)) return task.conflict();
  if (!nexus.unit.options.removable && prevent !== 0) {
    return task.illegalField(4, 1);
  }
  if (prevent > 1) return task.illegalField(4, 1);
  nexus.preventsRemoval = prevent === 1;
  task.good();
}

/** START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL. */
export const START_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "START STOP UNIT",
    opcode: Op.START_STOP_UNIT,
    length: 6,
    fields: [
      ["IMMED", 1, 0, 1],
      ["POWER CONDITION MODIFIER", 3, 3, 4],
      ["POWER CONDITION", 4, 7, 4],
      ["NO_FLUSH", 4, 2, 1],
      ["LOEJ", 4, 1, 1],
      ["START", 4, 0, 1],
    ],
    units: UNIT_MEDIA,
    access: ACCESS_OWN,
    exclusive: true,
    run: scripted(startStop),
    source: "SBC-4, MMC-6",
    tool: "sg_start",
  }),
  defineCommand({
    name: "PREVENT ALLOW MEDIUM REMOVAL",
    opcode: Op.PREVENT_ALLOW_MEDIUM_REMOVAL,
    length: 6,
    fields: [["PREVENT", 4, 1, 2]],
    units: UNIT_MEDIA,
    access: ACCESS_OWN,
    run: preventAllow,
    source: "SBC-4, MMC-6",
    tool: "sg_prevent",
  }),
];
