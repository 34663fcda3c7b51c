/**
 * What a CD-ROM knows besides: its table of contents, features and events. The
 * disc is one data track in one session.
 *
 * Source: MMC-6, the commands of these names.
 *
 * @module
 */

import { join, putU16, putU32, u16 } from "./bytes.ts";
import {
  ACCESS_ANY,
  ACCESS_READ,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_CDROM,
  ZERO,
} from "./command.ts";
import { Op } from "./constants.ts";
import { MediaEvent } from "./nexus.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

const MSF = 0x02;
/** ADR 1, CONTROL: a data track. */
const DATA_TRACK = 0x14;
const LEAD_OUT = 0xaa;
/** Frames in a second, and the two seconds before the first block. */
const FRAMES = 75, PREGAP = 150;
/** Profiles. */
const CD_ROM = 0x0008, DVD_ROM = 0x0010;
/** Blocks of the largest CD. */
const LARGEST_CD = 450_000;
/** Event classes: operational change and media. */
const MEDIA_CLASS = 4;
const MEDIA_PRESENT = 0x02, TRAY_OPEN = 0x01;

function address(lba: number, msf: boolean): Uint8Array {
  const bytes = new Uint8Array(4);
  if (!msf) putU32(bytes, 0, lba);
  else {
    const frame = lba + PREGAP;
    bytes[1] = Math.min(Math.floor(frame / FRAMES / 60), 255);
    bytes[2] = Math.floor(frame / FRAMES) % 60;
    bytes[3] = frame % FRAMES;
  }
  return bytes;
}

function tocEntry(track: number, lba: number, msf: boolean): Uint8Array {
  return join([Uint8Array.of(0, DATA_TRACK, track, 0), address(lba, msf)]);
}

function fullTocEntry(point: number, at: readonly number[]): Uint8Array {
  return Uint8Array.of(1, DATA_TRACK, 0, point, 0, 0, 0, 0, ...at);
}

function readToc(task: Task): void {
  const { cdb, nexus } = task;
  const { capacity } = nexus.unit;
  const msf = (cdb[1] & MSF) !== 0;
  const format = cdb[2] & 0xf || cdb[9] >> 6;
  const start = cdb[6];
  let body: Uint8Array;
  switch (format) {
    case 0: {
      if (start > 1 && start !== LEAD_OUT) return task.illegalField(6);
      body = join([
        ...(start <= 1 ? [tocEntry(1, 0, msf)] : []),
        tocEntry(LEAD_OUT, capacity, msf),
      ]);
      break;
    }
    case 1:
      body = tocEntry(1, 0, msf);
      break;
    case 2:
      if (start > 1) return task.illegalField(6);
      body = join([
        fullTocEntry(0xa0, [1, 0, 0]),
        fullTocEntry(0xa1, [1, 0, 0]),
        fullTocEntry(0xa2, [...address(capacity, true).subarray(1)]),
        fullTocEntry(1, [...address(0, true).subarray(1)]),
      ]);
      break;
    default:
      return task.illegalField(2, 3);
  }
  const head = Uint8Array.of(0, 0, 1, 1);
  putU16(head, 0, body.length + 2);
  task.reply(join([head, body]), u16(cdb, 7));
}

function profileOf(unit: LogicalUnit): number {
  if (!unit.loaded || unit.ejected) return 0;
  return unit.capacity > LARGEST_CD ? DVD_ROM : CD_ROM;
}

function feature(
  code: number,
  flags: number,
  ...data: number[]
): Uint8Array {
  const bytes = new Uint8Array(4 + data.length);
  putU16(bytes, 0, code);
  bytes[2] = flags;
  bytes[3] = data.length;
  bytes.set(data, 4);
  return bytes;
}

function getConfiguration(task: Task): void {
  const { cdb, nexus } = task;
  const { unit } = nexus;
  const profile = profileOf(unit);
  const type = cdb[1] & 3, from = u16(cdb, 2);
  if (type === 3) return task.illegalField(1, 1);
  const cd = profile === CD_ROM ? 1 : 0, dvd = profile === DVD_ROM ? 1 : 0;
  const all: [number, boolean, Uint8Array][] = [
    [0x0000, true, feature(0x0000, 0x03, 0, 0x10, dvd, 0, 0, 0x08, cd, 0)],
    // Core: a SCSI family interface; DBE.
    [0x0001, true, feature(0x0001, 0x0b, 0, 0, 0, 1, 1, 0, 0, 0)],
    // Removable medium: a tray that locks and ejects.
    [0x0003, true, feature(0x0003, 0x03, 0x29, 0, 0, 0)],
    // Random readable, 2048 bytes.
    [0x0010, cd + dvd > 0, feature(0x0010, 0, 0, 0, 8, 0, 0, 1, 0, 0)],
    [0x001e, cd > 0, feature(0x001e, 0, 0, 0, 0, 0)],
    [0x001f, dvd > 0, feature(0x001f, 0, 0, 0, 0, 0)],
  ];
  const chosen = all.filter(([code, current]) =>
    type === 2 ? code === from : code >= from && (type === 0 || current)
  ).map(([, current, bytes]) => {
    bytes[2] = bytes[2] & 0xfe | (current ? 1 : 0);
    return bytes;
  });
  const body = join(chosen);
  const head = new Uint8Array(8);
  putU32(head, 0, body.length + 4);
  putU16(head, 6, profile);
  task.reply(join([head, body]), u16(cdb, 7));
}

function getEventStatus(task: Task): void {
  const { cdb, nexus } = task;
  const { unit } = nexus;
  // Asynchronous notification is not supported: it has to be polled.
  if ((cdb[1] & 1) === 0) return task.illegalField(1, 0);
  const allocation = u16(cdb, 7);
  const supported = 1 << MEDIA_CLASS;
  if ((cdb[4] & supported) === 0) {
    return task.reply(Uint8Array.of(0, 2, 0x80, supported), allocation);
  }
  const status = (unit.ejected ? TRAY_OPEN : 0) |
    (unit.loaded && !unit.ejected ? MEDIA_PRESENT : 0);
  const event = nexus.mediaEvent;
  nexus.mediaEvent = MediaEvent.NO_CHANGE;
  task.reply(
    Uint8Array.of(0, 6, MEDIA_CLASS, supported, event, status, 0, 0),
    allocation,
  );
}

function readDiscInformation(task: Task): void {
  const { cdb } = task;
  const data = new Uint8Array(34);
  putU16(data, 0, data.length - 2);
  // The last session is complete, the disc is finalized.
  data[2] = 0x0e;
  data[3] =
    data[4] =
    data[5] =
    data[6] =
      1;
  // Unrestricted use.
  data[7] = 0x20;
  task.reply(data, u16(cdb, 7));
}

const COMMON = { units: UNIT_CDROM, length: 10 } as const;

/** Commands of CD-ROMs alone. */
export const DISC_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    ...COMMON,
    name: "READ TOC/PMA/ATIP",
    opcode: Op.READ_TOC,
    fields: [
      ["MSF", 1, 1, 1],
      ["FORMAT", 2, 3, 4],
      ["TRACK/SESSION NUMBER", 6, 7, 8],
      field.allocation10,
      ["FORMAT (obsolete)", 9, 7, 2],
    ],
    access: ACCESS_READ,
    needsMedium: true,
    run: readToc,
    source: "MMC-6",
    tool: "sg_raw 43",
  }),
  defineCommand({
    ...COMMON,
    name: "GET CONFIGURATION",
    opcode: Op.GET_CONFIGURATION,
    fields: [
      ["RT", 1, 1, 2],
      ["STARTING FEATURE NUMBER", 2, 7, 16],
      field.allocation10,
    ],
    access: ACCESS_ANY,
    ignoresAttention: true,
    run: getConfiguration,
    source: "MMC-6",
    tool: "sg_get_config",
  }),
  defineCommand({
    ...COMMON,
    name: "GET EVENT STATUS NOTIFICATION",
    opcode: Op.GET_EVENT_STATUS_NOTIFICATION,
    fields: [
      ["POLLED", 1, 0, 1],
      ["NOTIFICATION CLASS REQUEST", 4, 7, 8],
      field.allocation10,
    ],
    access: ACCESS_ANY,
    ignoresAttention: true,
    run: getEventStatus,
    source: "MMC-6",
    tool: "sg_raw 4a",
  }),
  defineCommand({
    ...COMMON,
    name: "READ DISC INFORMATION",
    opcode: Op.READ_DISC_INFORMATION,
    fields: [["DATA TYPE", 1, 2, 3, ZERO], field.allocation10],
    access: ACCESS_READ,
    needsMedium: true,
    run: readDiscInformation,
    source: "MMC-6",
    tool: "sg_raw 51",
  }),
];
