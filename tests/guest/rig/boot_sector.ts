/**
 * A boot sector that tests a disk through the BIOS (INT 13h, EDD extended
 * read and write): an independent, tiny virtio driver user.
 *
 * The program reads `sectors` sectors at `readLba`, sums them, writes them to
 * `writeLba`, wipes its buffer, reads them back from there, sums again and
 * compares. On COM1 it prints `S<sum> S<sum> OK`, the sums in four
 * hexadecimal digits; `BAD` in place of OK when they differ, and `E<status>`
 * with the status of INT 13h when a transfer fails. Then it ends QEMU through
 * the isa-debug-exit device at port 0x501, whose exit status is 2 v + 1 for
 * the value v written.
 *
 * From a CD-ROM the same program, without what writes, prints `S<sum> OK`.
 *
 * @module
 */

import { Assembler } from "./assembler.ts";

/** Which sectors the program reads and writes. */
export interface BootSectorPlan {
  /** The first sector read. */
  readonly readLba: number;
  /** The first sector written and read back. */
  readonly writeLba: number;
  /** How many sectors, 1 to 127 (the limit of one INT 13h call). */
  readonly sectors: number;
}

/** Exit statuses of QEMU when the program has run. */
export const BootSectorExit: {
  /** Both sums are the same. */
  readonly ok: 33;
  /** The sums differ. */
  readonly different: 35;
  /** INT 13h failed. */
  readonly failed: 37;
} = { ok: 33, different: 35, failed: 37 };

const ORIGIN = 0x7c00;
const BUFFER_SEGMENT = 0x1000;
const COM1 = 0x3f8;
const DEBUG_EXIT = 0x501;
const DISK_SERVICE = 0x13;
/** Services: the number in ah; al is 0, no verification. */
const EXTENDED_READ = 0x4200;
const EXTENDED_WRITE = 0x4300;
const SECTOR = 512, CD_SECTOR = 2048;

/** The value to write to isa-debug-exit for an exit status. */
function exitValue(status: number): number {
  return (status - 1) / 2;
}

/** Which sectors of a CD-ROM the program reads. */
export type CdBootPlan = Omit<BootSectorPlan, "writeLba">;

/**
 * The 512 bytes of the boot sector.
 *
 * @throws {RangeError} for a plan that one INT 13h call cannot carry out
 */
export function bootSector(plan: BootSectorPlan): Uint8Array<ArrayBuffer> {
  return bootProgram(plan, SECTOR);
}

/**
 * A program that a bootable CD-ROM starts without emulation; `sectors` (1 to 31)
 * have 2048 bytes.
 *
 * @throws {RangeError} for a plan that one INT 13h call cannot carry out
 */
export function cdBootProgram(plan: CdBootPlan): Uint8Array<ArrayBuffer> {
  return bootProgram(plan, CD_SECTOR);
}

function bootProgram(
  plan: CdBootPlan & Partial<BootSectorPlan>,
  sectorSize: number,
): Uint8Array<ArrayBuffer> {
  const { readLba, writeLba, sectors } = plan;
  const most = Math.min(127, Math.floor(0xffff / sectorSize));
  if (!(sectors >= 1 && sectors <= most)) {
    throw new RangeError(
      `Cannot move ${sectors} sectors: 1 to ${most} are right`,
    );
  }
  const words = sectors * sectorSize / 2;
  const program = new Assembler(ORIGIN);

  // The BIOS enters here with the drive number in dl.
  program.xor("ax", "ax").loadSegment("ds", "ax").loadSegment("ss", "ax")
    .load("sp", ORIGIN).storeByte("drive", "dl")
    .storeImmediate32("lba", readLba).load("ax", EXTENDED_READ)
    .call("transfer").call("sum").storeWord("firstSum", "bx");
  if (writeLba === undefined) program.jump("same");
  else {
    program.storeImmediate32("lba", writeLba).load("ax", EXTENDED_WRITE)
      .call("transfer").call("pointAtBuffer").xor("ax", "ax").fillWords()
      .load("ax", EXTENDED_READ).call("transfer").call("sum")
      .compareWord("bx", "firstSum").jumpIf("equal", "same");
  }
  for (const character of "BAD") print(program, character);
  program.loadByte("al", exitValue(BootSectorExit.different)).jump("exit");
  program.label("same");
  for (const character of "OK") print(program, character);
  program.loadByte("al", exitValue(BootSectorExit.ok));

  program.label("exit").push("ax");
  print(program, "\n");
  program.pop("ax").load("dx", DEBUG_EXIT).out().label("halt").hlt()
    .jump("halt");

  // transfer: one INT 13h call, its service in ax.
  program.label("transfer").fetchByte("dl", "drive").load("si", "packet")
    .interrupt(DISK_SERVICE).jumpIf("carry", "failed").return();
  program.label("failed").push("ax");
  print(program, "E");
  program.pop("ax").moveByte("al", "ah").loadByte("ah", 0).call("printWord")
    .loadByte("al", exitValue(BootSectorExit.failed)).jump("exit");

  // sum: bx = the checksum of the buffer, which it prints.
  program.label("sum").call("pointAtBuffer").xor("bx", "bx")
    .label("nextWord").rotateLeft("bx", 1).addFromDestination("bx")
    .addImmediate("di", 2).loop("nextWord");
  print(program, "S");
  program.moveWord("ax", "bx");

  // printWord: ax in hexadecimal and a space.
  program.label("printWord").load("cx", 4).label("nextDigit")
    .rotateLeft("ax", 4).push("ax").andAl(0x0f).addAl("0".charCodeAt(0))
    .compareAl("9".charCodeAt(0)).jumpIf("belowOrEqual", "digit")
    .addAl("a".charCodeAt(0) - "9".charCodeAt(0) - 1)
    .label("digit").call("putCharacter").pop("ax").loop("nextDigit")
    .loadByte("al", " ");

  // putCharacter: al to COM1.
  program.label("putCharacter").load("dx", COM1).out().return();

  // pointAtBuffer: es:di = the buffer, cx = its length in words.
  program.label("pointAtBuffer").load("ax", BUFFER_SEGMENT)
    .loadSegment("es", "ax").xor("di", "di").load("cx", words).return();

  // The disk address packet: size, sectors, buffer offset:segment, LBA.
  program.align(4).label("packet").data8(16, 0).data16(sectors)
    .data16(0, BUFFER_SEGMENT).label("lba").data16(0, 0, 0, 0);
  program.label("firstSum").data16(0).label("drive").data8(0);
  return program.fillTo(510).data8(0x55, 0xaa).assemble();
}

function print(program: Assembler, character: string): void {
  program.loadByte("al", character).call("putCharacter");
}

/** The program's checksum of `data`, in its four hexadecimal digits. */
export function bootSectorSum(data: Uint8Array): string {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) {
    sum = ((sum << 1) | (sum >> 15)) & 0xffff;
    sum = (sum + (data[at] | (data[at + 1] << 8))) & 0xffff;
  }
  return sum.toString(16).padStart(4, "0");
}
