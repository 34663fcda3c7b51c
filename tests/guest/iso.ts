/**
 * An ISO 9660 image with one file, bootable if it is to be.
 *
 * Source: ECMA-119; El Torito Bootable CD-ROM Format Specification 1.0.
 *
 * @module
 */

const BLOCK = 2048;
const DESCRIPTOR = 16, BOOT_RECORD = 17, TERMINATOR = 18, PATH_TABLE = 19;
const ROOT = 21, CATALOG = 22, BOOT = 23, FILE = 24;
const BLOCKS = 64;
/** The first block of the file. */
export const FILE_BLOCK: number = FILE;
/** Sectors of 512 bytes in a block. */
const SECTORS = 4;

function both16(view: DataView, at: number, value: number): void {
  view.setUint16(at, value, true);
  view.setUint16(at + 2, value);
}

function both32(view: DataView, at: number, value: number): void {
  view.setUint32(at, value, true);
  view.setUint32(at + 4, value);
}

/** A directory record. Source: section 9.1. */
function record(name: string, block: number, size: number, flags: number) {
  const length = 33 + name.length + (name.length % 2 === 0 ? 1 : 0);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  bytes[0] = length;
  both32(view, 2, block);
  both32(view, 10, size);
  bytes[18] = 100;
  bytes[19] = bytes[20] = 1;
  bytes[25] = flags;
  both16(view, 28, 1);
  bytes[32] = name.length;
  bytes.set(new TextEncoder().encode(name), 33);
  return bytes;
}

/** A boot record and a catalog with one program, started without emulation. */
function makeBootable(image: Uint8Array, program: Uint8Array): void {
  const record = BOOT_RECORD * BLOCK;
  image.set([0, ...new TextEncoder().encode("CD001"), 1], record);
  image.set(new TextEncoder().encode("EL TORITO SPECIFICATION"), record + 7);
  const view = new DataView(image.buffer, image.byteOffset);
  view.setUint32(record + 71, CATALOG, true);
  const catalog = CATALOG * BLOCK;
  image[catalog] = 1;
  image.set([0x55, 0xaa], catalog + 30);
  let sum = 0;
  for (let at = 0; at < 32; at += 2) sum += view.getUint16(catalog + at, true);
  // All words of the entry add up to nothing.
  view.setUint16(catalog + 28, -sum & 0xffff, true);
  image[catalog + 32] = 0x88;
  view.setUint16(catalog + 38, SECTORS, true);
  view.setUint32(catalog + 40, BOOT, true);
  image.set(program, BOOT * BLOCK);
}

/**
 * An image of 128 KiB.
 *
 * @param name of the file: upper case, as ISO 9660 wants it
 * @param program what a PC boots: one block at most
 */
export function isoImage(
  name: string,
  content: string,
  program?: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const image = new Uint8Array(BLOCKS * BLOCK);
  const data = new TextEncoder().encode(content);
  const root = record("\0", ROOT, BLOCK, 2);
  const start = DESCRIPTOR * BLOCK;
  const primary = new DataView(image.buffer, start, BLOCK);
  image.set([1, ...new TextEncoder().encode("CD001"), 1], start);
  image.fill(0x20, start + 8, start + 72);
  both32(primary, 80, BLOCKS);
  both16(primary, 120, 1);
  both16(primary, 124, 1);
  both16(primary, 128, BLOCK);
  both32(primary, 132, 10);
  primary.setUint32(140, PATH_TABLE, true);
  primary.setUint32(148, PATH_TABLE + 1);
  image.set(root, start + 156);
  image.fill(0x20, start + 190, start + 813);
  image[start + 881] = 1;
  image.set([255, ...new TextEncoder().encode("CD001"), 1], TERMINATOR * BLOCK);
  image.set([1, 0, ROOT, 0, 0, 0, 1, 0, 0, 0], PATH_TABLE * BLOCK);
  image.set([1, 0, 0, 0, 0, ROOT, 0, 1, 0, 0], (PATH_TABLE + 1) * BLOCK);
  let at = ROOT * BLOCK;
  for (
    const entry of [
      root,
      record("\x01", ROOT, BLOCK, 2),
      record(`${name};1`, FILE, data.length, 0),
    ]
  ) {
    image.set(entry, at);
    at += entry.length;
  }
  image.set(data, FILE * BLOCK);
  if (program !== undefined) makeBootable(image, program);
  else {
    // No boot record: the terminator comes next.
    image.copyWithin(
      BOOT_RECORD * BLOCK,
      TERMINATOR * BLOCK,
      (TERMINATOR + 1) * BLOCK,
    );
  }
  return image;
}
