/**
 * Recognizes image formats that would be damaged by serving them as raw disks.
 *
 * Theory of operation. A raw image has no mark of its own: any bytes are a valid
 * disk. What can be recognized are the marks of other formats, and serving such
 * a file raw would show the guest the container instead of the disk, and let it
 * overwrite the container's metadata. So such a file is refused, unless
 * `format=raw` says that its very bytes are meant.
 *
 * The guest can write any mark into its own raw disk, too. Nothing here ever
 * interprets another format, so that gains it no access to anything; it only
 * makes the next start without `format=raw` fail. Whoever serves the raw disks
 * of guests that are not trusted says `format=raw`.
 *
 * A disk that is encrypted as a whole (LUKS) is a raw disk for these purposes:
 * the guest itself opens it.
 *
 * @module
 */

import { startsWith } from "@std/bytes";
/** A recognized mark. */
export interface ImageFormat {
  /** Name for people. */
  readonly name: string;
  /** What `qemu-img` calls it, or `null` when it is a compressed file. */
  readonly qemuName: string | null;
  /** A command that makes a raw image of it. */
  readonly conversion: string;
}

/** Bytes at the start of a file that {@linkcode recognizeFormat} looks at. */
export const FORMAT_HEAD_SIZE = 512;
/** Bytes at the end of a file that {@linkcode recognizeFormat} looks at. */
export const FORMAT_TAIL_SIZE = 512;

interface Mark {
  readonly name: string;
  readonly qemuName: string | null;
  readonly offset: number;
  /** Each character is one byte. */
  readonly bytes: string;
  /** Decompression program, for compressed files. */
  readonly program?: string;
}

/** Marks at the start of the file. Source: the `probe` functions of qemu `block/`. */
const HEAD_MARKS: readonly Mark[] = [
  { name: "qcow", qemuName: "qcow", offset: 0, bytes: "QFI\xfb\0\0\0\x01" },
  { name: "qcow2", qemuName: "qcow2", offset: 0, bytes: "QFI\xfb" },
  { name: "QED", qemuName: "qed", offset: 0, bytes: "QED\0" },
  { name: "VMDK", qemuName: "vmdk", offset: 0, bytes: "KDMV" },
  { name: "VMDK", qemuName: "vmdk", offset: 0, bytes: "COWD" },
  {
    name: "VMDK descriptor",
    qemuName: "vmdk",
    offset: 0,
    bytes: "# Disk DescriptorFile",
  },
  { name: "VHDX", qemuName: "vhdx", offset: 0, bytes: "vhdxfile" },
  { name: "VHD", qemuName: "vpc", offset: 0, bytes: "conectix" },
  { name: "VDI", qemuName: "vdi", offset: 64, bytes: "\x7f\x10\xda\xbe" },
  {
    name: "Parallels",
    qemuName: "parallels",
    offset: 0,
    bytes: "WithoutFreeSpace",
  },
  {
    name: "Parallels",
    qemuName: "parallels",
    offset: 0,
    bytes: "WithouFreSpacExt",
  },
  {
    name: "xz-compressed",
    qemuName: null,
    offset: 0,
    bytes: "\xfd7zXZ\0",
    program: "xz",
  },
  {
    name: "zstd-compressed",
    qemuName: null,
    offset: 0,
    bytes: "\x28\xb5\x2f\xfd",
    program: "zstd",
  },
  {
    name: "gzip-compressed",
    qemuName: null,
    offset: 0,
    bytes: "\x1f\x8b\x08",
    program: "gzip",
  },
];

/** A fixed-size VHD is a raw disk with one more sector: its footer. */
const VHD_FOOTER: Mark = {
  name: "VHD",
  qemuName: "vpc",
  offset: 0,
  bytes: "conectix",
};

function matches(data: Uint8Array, mark: Mark): boolean {
  const bytes = Uint8Array.from(mark.bytes, (char) => char.charCodeAt(0));
  return startsWith(data.subarray(mark.offset), bytes);
}

function describe(mark: Mark, path: string): ImageFormat {
  const stem = path.replace(/\.[A-Za-z0-9]{1,8}$/, "");
  let target = stem.endsWith(".raw") ? stem : `${stem}.raw`;
  if (target === path) target += ".raw";
  const conversion = mark.qemuName === null
    ? `${mark.program} -dc "${path}" > "${target}"`
    : `qemu-img convert -f ${mark.qemuName} -O raw "${path}" "${target}"`;
  return { name: mark.name, qemuName: mark.qemuName, conversion };
}

/**
 * Recognizes the format of an image by its marks.
 *
 * @param path of the image, for the conversion command only
 * @param head the first {@linkcode FORMAT_HEAD_SIZE} bytes, or all of a shorter file
 * @param tail the last {@linkcode FORMAT_TAIL_SIZE} bytes, or all of a shorter file
 * @returns the format, or `null` when there is no known mark
 *
 * @example Usage
 * ```ts
 * import { recognizeFormat } from "./format.ts";
 * import { assertEquals } from "@std/assert";
 *
 * const head = new TextEncoder().encode("vhdxfile");
 * assertEquals(recognizeFormat("a.vhdx", head, head)?.name, "VHDX");
 * assertEquals(recognizeFormat("a.img", new Uint8Array(512), new Uint8Array(512)), null);
 * ```
 */
export function recognizeFormat(
  path: string,
  head: Uint8Array,
  tail: Uint8Array,
): ImageFormat | null {
  for (const mark of HEAD_MARKS) {
    if (matches(head, mark)) return describe(mark, path);
  }
  // The footer is 512 bytes long, and 511 in very old files.
  if (
    matches(tail, VHD_FOOTER) || matches(tail, { ...VHD_FOOTER, offset: 1 })
  ) {
    return describe(VHD_FOOTER, path);
  }
  return null;
}
