/**
 * What is on a raw image that FreeBSD boots from: partitions and file systems.
 *
 * Offsets are those of `struct fs` (`sys/ufs/ffs/fs.h`), of a GPT (`sys/disk/gpt.h`)
 * and of the volume descriptor of ISO 9660.
 *
 * @module
 */

/** Bytes of a file, fewer at its end. */
export function readAt(
  path: string,
  offset: number,
  length: number,
): Uint8Array<ArrayBuffer> {
  using file = Deno.openSync(path);
  file.seekSync(offset, Deno.SeekMode.Start);
  const bytes = new Uint8Array(length);
  let done = 0;
  while (done < length) {
    const read = file.readSync(bytes.subarray(done));
    if (read === null) break;
    done += read;
  }
  return bytes.subarray(0, done);
}

/** The type of partitions with UFS, as a GPT has it. */
const FREEBSD_UFS = "b67c6e51cf6ed6118ff800022d09712b";

/** Offsets of the superblock: of UFS2, of UFS1. */
const SUPERBLOCKS = [65536, 8192];

/** Offsets in it. */
const FS_CLEAN = 209, FS_MAGIC = 1372;

/** Where UFS begins: on the whole image, or in a partition, counted from 1. */
interface Ufs {
  readonly partition: number | null;
  readonly superblock: number;
}

/** Whether the image has a GPT. */
function hasGpt(path: string): boolean {
  return new TextDecoder().decode(readAt(path, 512, 8)) === "EFI PART";
}

/** The first partition for UFS of a GPT, and its offset. */
function gptUfs(path: string): { partition: number; offset: number } | null {
  const header = new DataView(readAt(path, 512, 92).buffer);
  const first = Number(header.getBigUint64(72, true));
  const count = header.getUint32(80, true), size = header.getUint32(84, true);
  const entries = readAt(path, first * 512, count * size);
  for (let at = 0; at + size <= entries.length; at += size) {
    if (entries.subarray(at, at + 16).toHex() !== FREEBSD_UFS) continue;
    const entry = new DataView(entries.buffer, at, size);
    return {
      partition: at / size + 1,
      offset: Number(entry.getBigUint64(32, true)) * 512,
    };
  }
  return null;
}

function superblockAt(path: string, offset: number): number | null {
  for (const at of SUPERBLOCKS) {
    const magic = readAt(path, offset + at + FS_MAGIC, 4).toHex();
    if (magic === "19015419" || magic === "54190100") return offset + at;
  }
  return null;
}

function findUfs(path: string): Ufs | null {
  const { partition, offset } = hasGpt(path)
    ? gptUfs(path) ?? { partition: null, offset: -1 }
    : { partition: null, offset: 0 };
  const superblock = offset < 0 ? null : superblockAt(path, offset);
  return superblock === null ? null : { partition, superblock };
}

/**
 * Where the root file system is on a raw image: the file system itself, or a
 * partition of a GPT.
 *
 * @param device the disk, `vtbd0` say
 * @returns a value for `vfs.root.mountfrom`; `null` when it cannot be told
 */
export function mountFrom(path: string, device: string): string | null {
  if (hasGpt(path)) {
    const found = gptUfs(path);
    return found === null ? null : `ufs:/dev/${device}p${found.partition}`;
  }
  const iso = new TextDecoder().decode(readAt(path, 32769, 5));
  if (iso === "CD001") return `cd9660:/dev/${device}`;
  return findUfs(path) === null ? null : `ufs:/dev/${device}`;
}

/**
 * Where else the root file system may be, for a kernel that asks.
 *
 * @param device the disk, `vtbd0` say
 */
export function likelyRoots(device: string): string[] {
  const parts = ["", "p2", "p3", "p4", "p1", "s1a", "s1", "a"];
  return [
    ...parts.map((part) => `ufs:/dev/${device}${part}`),
    `cd9660:/dev/${device}`,
    "zfs:zroot/ROOT/default",
  ];
}

/**
 * Whether the UFS on an image was unmounted; `unknown` where there is none that
 * can be found.
 */
export function ufsState(path: string): "clean" | "in use" | "unknown" {
  const found = findUfs(path);
  if (found === null) return "unknown";
  const [clean] = readAt(path, found.superblock + FS_CLEAN, 1);
  return clean === 1 ? "clean" : "in use";
}
