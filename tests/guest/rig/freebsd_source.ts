/**
 * Where a FreeBSD guest comes from, and what of it is put on the served disk.
 *
 * Theory of operation: the environment names an image, or a kernel with or
 * without a root file system; else an image is fetched once into the cache, its
 * checksum compared with the one that FreeBSD's own site has over HTTPS. An image
 * is unpacked and made raw in a directory of the run; each guest gets a copy,
 * since it writes to it. An image that would use a screen is told in its copy to
 * use the serial console: a line of `/boot/defaults/loader.conf` is a comment of
 * the same length as the line wanted. A kernel takes its environment from QEMU's
 * command line (`xen_pvh_parse_preload_data` of `sys/x86/xen/pv.c`, which gives
 * it to `boot_parse_cmdline_delim` of `sys/kern/subr_boot.c`): words set apart by
 * commas in every release, by blanks as well in newer ones, each a variable. What
 * flags such as `-s` say is lost, a value has no comma and no blank, and of two
 * values of a variable the kernel finds the first (`_getenv_static_from`).
 *
 * @module
 */

import { join } from "@std/path";
import { indexOfNeedle } from "@std/bytes";
import { ProcessError, runCommand } from "../../support/process.ts";
import { cached, type RigOptions } from "./cache.ts";
import { RigError } from "./error.ts";
import { readAt } from "./freebsd_disk.ts";
import { FREEBSD_IMAGES, type FreeBsdImages } from "./freebsd_release.ts";
import { findQemu } from "./qemu.ts";

/** What boots. */
export type FreeBsdSource =
  | { readonly kind: "image"; readonly path: string }
  | {
    readonly kind: "kernel";
    readonly kernel: string;
    /** A raw image of a file system, or of a disk. */
    readonly root: string | null;
    /** More variables for the kernel. */
    readonly args: string;
  };

/** How long (ms) unpacking or fetching an image may take. */
const LONG = 60 * 60_000;

/** How a FreeBSD guest is given, for messages. */
export const HOW_TO_GIVE =
  "give one with FREEBSD_IMAGE=FILE (an official image for virtual machines: " +
  "raw, qcow2, or .xz of these), or FREEBSD_KERNEL=FILE with FREEBSD_ROOT=FILE " +
  "and FREEBSD_KERNEL_ARGS; see docs/freebsd.md";

/** What the environment names, or `null`. */
export function sourceFrom(
  variable: (name: string) => string | undefined,
): FreeBsdSource | null {
  const [image, kernel, root, args] = [
    "FREEBSD_IMAGE",
    "FREEBSD_KERNEL",
    "FREEBSD_ROOT",
    "FREEBSD_KERNEL_ARGS",
  ].map((name) => variable(name) || null);
  if (image !== null && kernel !== null) {
    throw new RigError(
      "format",
      "FREEBSD_IMAGE and FREEBSD_KERNEL are two guests: give one of them",
    );
  }
  if (kernel === null && (root !== null || args !== null)) {
    throw new RigError(
      "format",
      "FREEBSD_ROOT and FREEBSD_KERNEL_ARGS go with FREEBSD_KERNEL",
    );
  }
  if (image !== null) return { kind: "image", path: present(image) };
  if (kernel === null) return null;
  checkKernel(present(kernel));
  return {
    kind: "kernel",
    kernel,
    root: root === null ? null : present(root),
    args: args ?? "",
  };
}

function present(path: string): string {
  try {
    Deno.statSync(path);
    return path;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RigError("missing-file", `There is no "${path}"`);
  }
}

/** QEMU boots ELF kernels that have the entry point of PVH. */
function checkKernel(path: string): void {
  const start = readAt(path, 0, 4);
  if (start.toHex() === "7f454c46") return;
  throw new RigError(
    "format",
    `FREEBSD_KERNEL="${path}" is no ELF file: /boot/kernel/kernel is wanted, ` +
      "unpacked",
  );
}

/** The SHA-512 of a file in `SHA512 (NAME) = HEX`, or `null`. */
export function checksumOf(checksums: string, file: string): string | null {
  for (const line of checksums.split("\n")) {
    const found = /^SHA512 \((.+)\) = ([0-9a-f]{128})\s*$/.exec(line);
    if (found?.[1] === file) return found[2];
  }
  return null;
}

/**
 * Fetches the pinned image into the cache.
 *
 * @returns its path, `.xz`; or why it is not to be had here
 * @throws {RigError} `download` when what arrived is not what the checksums say
 */
export async function fetchImage(
  options: RigOptions = {},
  images: FreeBsdImages = FREEBSD_IMAGES,
): Promise<{ path: string | null; reason: string }> {
  let checksums: string;
  try {
    const reply = await fetch(images.folder + images.checksums, {
      signal: AbortSignal.timeout(20_000),
    });
    if (!reply.ok) throw new Error(`status ${reply.status}`);
    checksums = await reply.text();
  } catch (error) {
    return {
      path: null,
      reason: `FreeBSD ${images.release} cannot be fetched from ` +
        `${new URL(images.folder).host} (${(error as Error).message})`,
    };
  }
  const file = images.files.find((name) => checksumOf(checksums, name));
  if (file === undefined) {
    return {
      path: null,
      reason: `FreeBSD ${images.release} has no image of a known name`,
    };
  }
  const sum = checksumOf(checksums, file)!;
  const entry = await cached({
    name: "freebsd",
    inputs: [file, sum],
    build: async (into) => {
      options.progress?.(`fetching ${file}`);
      const path = join(into, file);
      const reply = await fetch(images.folder + file, {
        signal: AbortSignal.timeout(LONG),
      });
      if (!reply.ok || reply.body === null) {
        throw new RigError(
          "download",
          `Cannot fetch ${images.folder}${file}: status ${reply.status}`,
        );
      }
      await Deno.writeFile(path, reply.body);
      const { stdout } = await runCommand("sha512sum", {
        args: [path],
        timeout: LONG,
      });
      const [actual] = stdout.split(" ");
      if (actual !== sum) {
        throw new RigError(
          "download",
          `${file} has the SHA-512 ${actual}, it should have ${sum}`,
        );
      }
    },
  }, options);
  return { path: join(entry, file), reason: "" };
}

/** The first bytes of a qcow2 image. */
const QCOW2 = "514649fb";

/**
 * Makes an image raw and unpacked, in `directory`.
 *
 * @returns the path of a raw image: `path` itself where it is one
 */
export async function rawImage(
  path: string,
  directory: string,
): Promise<string> {
  let from = path;
  if (readAt(path, 0, 6).toHex() === "fd377a585a00") {
    from = join(directory, "unpacked.img");
    await unpack(path, from);
  }
  if (readAt(from, 0, 4).toHex() !== QCOW2) return from;
  const raw = join(directory, "raw.img");
  const { command, args, env } = (await findQemu()).program("qemu-img");
  await runCommand(command, {
    args: [...args, "convert", "-f", "qcow2", "-O", "raw", from, raw],
    env,
    timeout: LONG,
  });
  if (from !== path) Deno.removeSync(from);
  return raw;
}

/** xz writes holes where there are zeroes only into a file it names itself. */
async function unpack(from: string, to: string): Promise<void> {
  const link = `${to}.xz`;
  Deno.symlinkSync(Deno.realPathSync(from), link);
  try {
    await runCommand("xz", {
      args: ["--decompress", "--keep", "--force", link],
      timeout: LONG,
    });
  } catch (error) {
    if (!(error instanceof ProcessError)) throw error;
    throw new RigError(
      error.kind === "not-found" ? "platform" : "format",
      `Cannot unpack "${from}": ${error.message}`,
    );
  } finally {
    Deno.removeSync(link);
  }
}

/** A copy for a guest to write to, with the holes of the original. */
export async function copyImage(from: string, to: string): Promise<void> {
  await runCommand("cp", {
    args: ["--sparse=always", "--reflink=auto", from, to],
    timeout: LONG,
  });
}

/** A comment of `/boot/defaults/loader.conf`, and what it is to be. */
const CONSOLE_LINE = ['#console="vidconsole"', 'console="comconsole" '];

/**
 * Has the boot loader of an image use the serial console, by changing a comment
 * of `/boot/defaults/loader.conf` in place. It works where a file system keeps
 * files as they are (UFS).
 *
 * @returns how often the comment was there
 */
export function useSerialConsole(path: string): number {
  const [comment, line] = CONSOLE_LINE.map((text) =>
    new TextEncoder().encode(text)
  );
  const CHUNK = 1 << 22;
  using file = Deno.openSync(path, { read: true, write: true });
  const { size } = file.statSync();
  const buffer = new Uint8Array(CHUNK + comment.length);
  let found = 0;
  for (let at = 0; at < size; at += CHUNK) {
    file.seekSync(at, Deno.SeekMode.Start);
    let length = 0;
    while (length < buffer.length) {
      const read = file.readSync(buffer.subarray(length));
      if (read === null) break;
      length += read;
    }
    const piece = buffer.subarray(0, length);
    for (
      let i = indexOfNeedle(piece, comment);
      i >= 0 && i < CHUNK;
      i = indexOfNeedle(piece, comment, i + 1)
    ) {
      file.seekSync(at + i, Deno.SeekMode.Start);
      file.writeSync(line);
      found++;
    }
  }
  return found;
}

/**
 * Variables of a caller who knows one of the two places of the root disk: it is
 * at the other one as well.
 *
 * @param device the root disk, `vtbd0` or `da0`
 */
export function onDisk(variables: string, device: string): string {
  return variables.replace(
    /(vfs\.root\.mountfrom=\w+:\/dev\/)(?:vtbd|da)0(?!\d)/,
    `$1${device}`,
  );
}

/**
 * The kernel's environment. Without a boot loader there are no hints: the
 * console is named by its port. The kernel waits for the root device longer than
 * its three seconds, because an emulated machine is slow.
 *
 * @param root value of `vfs.root.mountfrom`
 * @param more words of the caller, which win: theirs are in the place of ours
 */
export function kernelArguments(root: string | null, more: string): string {
  const words = more.split(/[\s,]+/).filter(Boolean);
  const name = (word: string) => word.split("=")[0];
  const theirs = new Set(words.map(name));
  const ours = [
    "boot_serial=YES",
    "hw.uart.console=io:0x3f8",
    // Where it is asked for the root, each guess that is wrong takes so long.
    `vfs.mountroot.timeout=${root === null ? 20 : 120}`,
    ...(root === null ? [] : [`vfs.root.mountfrom=${root}`]),
  ];
  return [...ours.filter((word) => !theirs.has(name(word))), ...words]
    .join(",");
}
