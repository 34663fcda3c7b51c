/**
 * INQUIRY: standard data and vital product data.
 *
 * Source: SPC-5, the command INQUIRY and the vital product data parameters,
 * SBC-4, its own vital product data pages.
 *
 * @module
 */

import { join, putText, putU16, putU32, putU64, u16 } from "./bytes.ts";
import {
  ACCESS_ANY,
  type CommandSpec,
  defineCommand,
  field,
  UNIT_ABSENT,
  UNIT_ANY,
  UNIT_CDROM,
  UNIT_DISK,
} from "./command.ts";
import { Op } from "./constants.ts";
import {
  MAX_COMPARE_BLOCKS,
  MAX_TRANSFER_BYTES,
  MAX_UNMAP_BYTES,
  MAX_UNMAP_DESCRIPTORS,
  MAX_WRITE_SAME_BYTES,
} from "./limits.ts";
import type { Task } from "./task.ts";
import type { LogicalUnit } from "./unit.ts";

const EVPD = 0x01;
const STANDARD_SIZE = 74;
/** PERIPHERAL QUALIFIER: there is no logical unit and there cannot be one. */
const QUALIFIER_NOT_SUPPORTED = 0x60;
/** VERSION: SPC-5. */
const VERSION_SPC_5 = 0x07;
/** RESPONSE DATA FORMAT 2, HISUP. */
const FORMAT = 0x12;
/** CMDQUE. */
const COMMAND_QUEUING = 0x02;
/** TPGS: implicit asymmetric access. */
const IMPLICIT_TPGS = 0x10;
/** Version descriptors: SAM-5, SPC-5; SBC-4 or MMC-6. */
const SAM_5 = 0x00a0, SPC_5 = 0x05c0, SBC_4 = 0x0600, MMC_6 = 0x04e0;
/** Descriptor heads. Source: SPC-5. */
const BINARY = 0x01, ASCII = 0x02;
/** Relative target port identifier and target port group that there are. */
export const TARGET_PORT = 1, TARGET_PORT_GROUP = 1;

function standard(unit: LogicalUnit): Uint8Array {
  const { options, kind } = unit;
  const data = new Uint8Array(kind === UNIT_ABSENT ? 36 : STANDARD_SIZE);
  data[0] = unit.deviceType |
    (kind === UNIT_ABSENT ? QUALIFIER_NOT_SUPPORTED : 0);
  data[1] = options.removable ? 0x80 : 0;
  data[2] = VERSION_SPC_5;
  data[3] = FORMAT;
  data[4] = data.length - 5;
  data[5] = unit.hasMedia ? IMPLICIT_TPGS : 0;
  data[7] = COMMAND_QUEUING;
  putText(data, 8, 8, options.vendor);
  putText(data, 16, 16, options.product);
  putText(data, 32, 4, options.revision);
  if (kind !== UNIT_ABSENT) {
    putU16(data, 58, SAM_5);
    putU16(data, 60, SPC_5);
    if (kind === UNIT_DISK) putU16(data, 62, SBC_4);
    if (kind === UNIT_CDROM) putU16(data, 62, MMC_6);
  }
  return data;
}

/** A designation descriptor: association with the logical unit (0) or port (1). */
function designator(
  codeSet: number,
  association: number,
  type: number,
  bytes: Uint8Array,
): Uint8Array {
  const head = new Uint8Array(4);
  head[0] = codeSet;
  head[1] = association << 4 | type;
  head[3] = bytes.length;
  return join([head, bytes]);
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0));
}

function identification(unit: LogicalUnit): Uint8Array {
  const { vendor, product, serial, wwn } = unit.options;
  const t10 = ascii(vendor.padEnd(8) + product.padEnd(16) + serial);
  return join([
    designator(BINARY, 0, 3, wwn),
    designator(ASCII, 0, 1, t10),
    designator(BINARY, 1, 4, Uint8Array.of(0, 0, 0, TARGET_PORT)),
    designator(BINARY, 1, 5, Uint8Array.of(0, 0, 0, TARGET_PORT_GROUP)),
  ]);
}

function extendedInquiry(): Uint8Array {
  const data = new Uint8Array(60);
  // HEADSUP, ORDSUP, SIMPSUP.
  data[1] = 0x07;
  // V_SUP: there is a volatile cache.
  data[2] = 0x01;
  // LUICLR: I_T nexus loss clears reservations of the RESERVE command.
  data[3] = 0x01;
  return data;
}

function modePagePolicies(): Uint8Array {
  // All pages and subpages are shared.
  return Uint8Array.of(0x3f, 0xff, 0, 0);
}

function blockLimits(unit: LogicalUnit): Uint8Array {
  const { blockSize, options, optimalSize, discardGranularity } = unit;
  const data = new Uint8Array(60);
  // WSNZ: a WRITE SAME of zero blocks is refused.
  data[0] = 0x01;
  data[1] = MAX_COMPARE_BLOCKS;
  putU16(data, 2, optimalSize / blockSize);
  putU32(data, 4, MAX_TRANSFER_BYTES / blockSize);
  if (options.thin) {
    putU32(data, 16, Math.min(MAX_UNMAP_BYTES / blockSize, 0xffff_ffff));
    putU32(data, 20, MAX_UNMAP_DESCRIPTORS);
    putU32(data, 24, discardGranularity / blockSize);
    data[28] = 0x80;
  }
  putU64(data, 32, MAX_WRITE_SAME_BYTES / blockSize);
  return data;
}

function characteristics(unit: LogicalUnit): Uint8Array {
  const data = new Uint8Array(60);
  putU16(data, 0, unit.options.rotational ? 7200 : 1);
  // FUAB, and that it is not zoned.
  data[4] = 0x02;
  return data;
}

function provisioning(unit: LogicalUnit): Uint8Array {
  const data = new Uint8Array(4);
  if (unit.options.thin) {
    // LBPU, LBPWS, LBPWS10, LBPRZ: unmapped blocks read as zeroes.
    data[1] = 0xe4;
    data[2] = 0x02;
  } else data[2] = 0x01;
  return data;
}

const pages: readonly {
  readonly page: number;
  readonly diskOnly: boolean;
  readonly make: (unit: LogicalUnit) => Uint8Array;
}[] = [
  {
    page: 0x80,
    diskOnly: false,
    make: ({ options }) => ascii(options.serial),
  },
  { page: 0x83, diskOnly: false, make: identification },
  { page: 0x86, diskOnly: false, make: extendedInquiry },
  { page: 0x87, diskOnly: false, make: modePagePolicies },
  { page: 0xb0, diskOnly: true, make: blockLimits },
  { page: 0xb1, diskOnly: true, make: characteristics },
  { page: 0xb2, diskOnly: true, make: provisioning },
];

/** Codes of the vital product data pages that a logical unit has. */
export function vpdPages(unit: LogicalUnit): number[] {
  if (!unit.hasMedia) return [0x00];
  return [
    0x00,
    ...pages.filter(({ diskOnly }) => !diskOnly || unit.kind === UNIT_DISK)
      .map(({ page }) => page),
  ];
}

function vital(unit: LogicalUnit, code: number): Uint8Array | null {
  const known = vpdPages(unit);
  if (!known.includes(code)) return null;
  const body = code === 0
    ? Uint8Array.from(known)
    : pages.find(({ page }) => page === code)!.make(unit);
  const head = new Uint8Array(4);
  head[0] = unit.deviceType;
  head[1] = code;
  putU16(head, 2, body.length);
  return join([head, body]);
}

function inquiry(task: Task): void {
  const { cdb, nexus } = task;
  const allocation = u16(cdb, 3);
  if ((cdb[1] & EVPD) === 0) {
    if (cdb[2] !== 0) return task.illegalField(2);
    return task.reply(standard(nexus.unit), allocation);
  }
  const page = nexus.unit.kind === UNIT_ABSENT
    ? null
    : vital(nexus.unit, cdb[2]);
  if (page === null) return task.illegalField(2);
  task.reply(page, allocation);
}

/** INQUIRY. */
export const INQUIRY_COMMANDS: readonly CommandSpec[] = [
  defineCommand({
    name: "INQUIRY",
    opcode: Op.INQUIRY,
    length: 6,
    fields: [
      ["Obsolete", 1, 1, 1, true],
      ["EVPD", 1, 0, 1],
      ["PAGE CODE", 2, 7, 8],
      field.allocation6,
    ],
    units: UNIT_ANY | UNIT_ABSENT,
    access: ACCESS_ANY,
    always: true,
    ignoresAttention: true,
    run: inquiry,
    source: "SPC-5",
    tool: "sg_vpd",
  }),
];
