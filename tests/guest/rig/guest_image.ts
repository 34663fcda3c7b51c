/**
 * The Linux guest's kernel and initial RAM disk, from Debian's packages.
 *
 * Theory of operation: the base archive holds busybox, the kernel modules of
 * the virtio devices in the order in which they load (from their own
 * `depends=` lines: packages bring no modules.dep), tools with their shared
 * libraries, and an init that loads the modules and runs `/test.sh` where
 * there is one. It is built once and cached under a key of all that goes into
 * it. A test adds its script as a second archive behind the base: the kernel
 * unpacks one after the other.
 *
 * @module
 */

import { basename, join } from "@std/path";
import { indexOfNeedle } from "@std/bytes";
import { runCommand } from "../../support/process.ts";
import { cached, type RigOptions } from "./cache.ts";
import { CpioWriter } from "./cpio.ts";
import { RigError } from "./error.ts";
import {
  findInSysroot,
  inSysroot,
  libraryDirectories,
  sysroot,
  type SysrootSpec,
} from "./packages.ts";

/** A version of Linux that guests can run. */
export type LinuxVersion = "6.1" | "6.12";

/** The kernel's package: the meta-package names the current one. */
export const KERNEL_PACKAGES: Readonly<Record<LinuxVersion, SysrootSpec>> = {
  "6.1": kernelOf("linux", "bookworm"),
  "6.12": kernelOf("linux-6.12", "trixie"),
};

function kernelOf(name: string, suite: string): SysrootSpec {
  return {
    name,
    suites: [suite],
    packages: ["linux-image-cloud-amd64"],
    only: "^linux-image-\\d",
  };
}

/** What guests need, and which kernel they run. */
export interface GuestImageOptions extends RigOptions {
  /** Version of Linux (6.1). */
  linux?: LinuxVersion;
}

/** The packages of the guest's tools. */
export const TOOL_PACKAGES: SysrootSpec = {
  name: "tools",
  suites: ["bookworm"],
  packages: [
    "busybox-static",
    "e2fsprogs",
    "util-linux",
    "sg3-utils",
    "ethtool",
  ],
};

/** Modules that the guest loads, each after those that it depends on. */
const MODULES = [
  "virtio_pci",
  "virtio_blk",
  "virtio_scsi",
  "sd_mod",
  "sr_mod",
  "isofs",
  "sg",
  "virtio_net",
  "8021q",
  "virtio_balloon",
  "virtio_mem",
  "virtio-rng",
  "ext4",
];

/** Tools that the guest has beside busybox, in /bin. */
const TOOLS = [
  "blkdiscard",
  "blockdev",
  "e2fsck",
  "ethtool",
  "fstrim",
  "lsblk",
  "mkfs.ext4",
  "sg_compare_and_write",
  "sg_dd",
  "sg_get_config",
  "sg_get_lba_status",
  "sg_inq",
  "sg_logs",
  "sg_luns",
  "sg_modes",
  "sg_opcodes",
  "sg_persist",
  "sg_prevent",
  "sg_raw",
  "sg_readcap",
  "sg_requests",
  "sg_reset",
  "sg_rtpg",
  "sg_seek",
  "sg_senddiag",
  "sg_start",
  "sg_sync",
  "sg_turs",
  "sg_unmap",
  "sg_verify",
  "sg_vpd",
  "sg_wr_mode",
  "sg_write_same",
  "sg_write_verify",
];

/** The label of the file system that `linux_root.ts` makes. */
export const ROOT_LABEL = "guest-root";

/**
 * The first process, of the RAM disk and of a disk that is the root file system
 * in its place (`root=` on the kernel's command line): only the RAM disk has
 * modules. `@@` begins every line that is meant for the rig.
 */
const INIT = `#!/bin/busybox sh
[ -e /sbin/mount ] || {
  /bin/busybox mkdir -p /sbin
  /bin/busybox --install -s /sbin
}
export PATH=/bin:/sbin HOME=/root LD_LIBRARY_PATH=/lib/x86_64-linux-gnu
[ -e /proc/mounts ] || {
  mount -t devtmpfs dev /dev
  mount -t proc proc /proc
  mount -t sysfs sys /sys
  ln -s /proc/self/fd /dev/fd
}
if [ -f /modules/order ]; then
  while read -r module; do insmod "/modules/$module"; done < /modules/order
  root=$(sed -n 's/.*\\broot=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
  if [ -n "$root" ]; then
    disk=
    i=0
    while [ $i -lt 300 ] && ! disk=$(findfs "$root" 2> /dev/null); do
      i=$((i+1))
      usleep 100000
    done
    e2fsck -p "$disk"
    [ $? -le 1 ] && mount -t ext4 "$disk" /mnt && {
      for x in dev proc sys; do mount -o move /$x /mnt/$x; done
      exec switch_root /mnt /init
    }
    echo "@@FAIL cannot mount $root (\"$disk\") as root"
    poweroff -f
  fi
fi
mount -t tmpfs tmp /tmp
echo "@@BOOT $(cut -d' ' -f1 /proc/uptime)"
if [ -f /test.sh ]; then
  sh /test.sh
  echo "@@EXIT $?"
else
  export ENV=/helpers.sh PS1='guest# '
  setsid -c sh -i < /dev/ttyS0 > /dev/ttyS0 2>&1
fi
sync
poweroff -f
`;

/** Shell functions for scripts; see the rig's README. */
const HELPERS = `
say() { echo "@@$*"; }
fail() { echo "@@FAIL $*"; exit 1; }
check() {
  check_name=$1
  shift
  "$@" || fail "$check_name (status $?): $*"
  echo "@@CHECK $check_name"
}
`;

/** Changes with the layout of the archive. */
const FORMAT = 1;

/** What boots the guest. */
export interface GuestImage {
  /** The kernel. */
  readonly kernel: string;
  /** The base archive. */
  readonly base: string;
}

/**
 * The kernel and the base archive, built now unless the cache has them.
 *
 * @throws {RigError} as `sysroot`; `missing-file` when a package lacks a
 * module or tool
 */
export async function guestImage(
  options: GuestImageOptions = {},
): Promise<GuestImage> {
  const packages = KERNEL_PACKAGES[options.linux ?? "6.1"];
  const kernel = await sysroot(packages, options);
  const tools = await sysroot(TOOL_PACKAGES, options);
  const image = await cached({
    name: "guest",
    inputs: [
      FORMAT,
      basename(kernel),
      basename(tools),
      MODULES,
      TOOLS,
      INIT,
      HELPERS,
    ],
    build: async (into) => {
      options.progress?.("building the Linux guest");
      const base = await baseArchive(kernel, tools);
      Deno.writeFileSync(join(into, "base.cpio"), base);
      Deno.copyFileSync(findKernel(kernel), join(into, "vmlinuz"));
    },
  }, options);
  return { kernel: join(image, "vmlinuz"), base: join(image, "base.cpio") };
}

/**
 * The base archive and behind it one with the test's script.
 *
 * @param script the shell script; `null` for a shell on the console
 */
export function initialRamDisk(
  image: GuestImage,
  script: string | null,
): Uint8Array[] {
  const base = Deno.readFileSync(image.base);
  if (script === null) return [base];
  const added = new CpioWriter();
  const text = `. /helpers.sh\nset -eu -o pipefail\n${script}\n`;
  added.file("test.sh", new TextEncoder().encode(text), 0o755);
  return [base, added.finish()];
}

async function baseArchive(
  kernel: string,
  tools: string,
): Promise<Uint8Array> {
  const archive = new CpioWriter();
  for (const name of ["dev", "proc", "sys", "tmp", "run", "mnt", "root"]) {
    archive.directory(name);
  }
  const text = (content: string) => new TextEncoder().encode(content);
  archive.file("init", text(INIT), 0o755);
  const busybox = findInSysroot(tools, "busybox");
  archive.file("bin/busybox", Deno.readFileSync(busybox), 0o755);
  await addModules(archive, kernel);
  await addTools(archive, tools);
  archive.file("helpers.sh", text(HELPERS + await shadowApplets(busybox)));
  return archive.finish();
}

/**
 * busybox's shell prefers its own applets to programs in PATH. A function of
 * the same name goes before both.
 */
async function shadowApplets(busybox: string): Promise<string> {
  const { stdout } = await runCommand(busybox, { args: ["--list"] });
  const applets = new Set(stdout.split("\n"));
  return TOOLS.filter((tool) => applets.has(tool))
    .map((tool) => `${tool}() { /bin/${tool} "$@"; }\n`).join("");
}

function findKernel(root: string): string {
  for (const { name } of Deno.readDirSync(join(root, "boot"))) {
    if (name.startsWith("vmlinuz-")) return join(root, "boot", name);
  }
  throw new RigError("missing-file", `Cannot find a kernel in "${root}/boot"`);
}

async function addModules(archive: CpioWriter, root: string): Promise<void> {
  const parent = ["lib/modules", "usr/lib/modules"]
    .map((name) => join(root, name)).find(isDirectory);
  if (parent === undefined) {
    throw new RigError("missing-file", `Cannot find modules in "${root}"`);
  }
  const [{ name: version }] = Deno.readDirSync(parent);
  const directory = join(parent, version);
  const files = new Map<string, string>();
  collectModules(join(directory, "kernel"), files);
  const builtIn = new Set(
    Deno.readTextFileSync(join(directory, "modules.builtin")).split("\n")
      .map(moduleName),
  );
  const order: string[] = [];
  const add = async (name: string): Promise<void> => {
    if (order.includes(`${name}.ko`) || builtIn.has(name)) return;
    const path = files.get(name);
    if (path === undefined) {
      throw new RigError(
        "missing-file",
        `Cannot find the module ${name}.ko in "${directory}"`,
      );
    }
    const module = await readModule(path);
    for (const dependency of moduleDependencies(module)) await add(dependency);
    archive.file(`modules/${name}.ko`, module);
    order.push(`${name}.ko`);
  };
  for (const name of MODULES) await add(name.replaceAll("-", "_"));
  const lines = order.map((name) => `${name}\n`).join("");
  archive.file("modules/order", new TextEncoder().encode(lines));
}

function collectModules(directory: string, into: Map<string, string>): void {
  for (const { name, isDirectory } of Deno.readDirSync(directory)) {
    const path = join(directory, name);
    if (isDirectory) collectModules(path, into);
    else if (/\.ko(\.xz)?$/.test(name)) into.set(moduleName(name), path);
  }
}

/** A module's name from its path: file names and names differ in `-`. */
function moduleName(path: string): string {
  return basename(path).replace(/\.ko(\.xz)?$/, "").replaceAll("-", "_");
}

/** A module, as the kernel loads it. */
async function readModule(path: string): Promise<Uint8Array<ArrayBuffer>> {
  if (!path.endsWith(".xz")) return Deno.readFileSync(path);
  try {
    const { success, stdout, stderr } = await new Deno.Command("xz", {
      args: ["--decompress", "--stdout", path],
    }).output();
    if (success) return stdout;
    throw new RigError(
      "format",
      `Cannot unpack "${path}": ${new TextDecoder().decode(stderr)}`,
    );
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new RigError("platform", `Cannot unpack "${path}": there is no xz`);
  }
}

/**
 * The modules that a module needs, from the `depends=` entry of its .modinfo
 * section (NUL-terminated `key=value` strings).
 */
export function moduleDependencies(module: Uint8Array): string[] {
  const key = new TextEncoder().encode("\0depends=");
  const at = indexOfNeedle(module, key);
  if (at < 0) return [];
  const start = at + key.length;
  const value = module.subarray(start, module.indexOf(0, start));
  return new TextDecoder().decode(value).split(",").filter((name) => name)
    .map((name) => name.replaceAll("-", "_"));
}

/** Adds tools, the libraries that the loader finds for them, and the loader. */
async function addTools(archive: CpioWriter, root: string): Promise<void> {
  const libraries = new Set<string>();
  for (const tool of TOOLS) {
    const path = findInSysroot(root, tool);
    archive.file(`bin/${tool}`, Deno.readFileSync(path), 0o755);
    const { command } = inSysroot(root, tool);
    const { stdout } = await runCommand(command, {
      args: [
        "--library-path",
        libraryDirectories(root).join(":"),
        "--list",
        path,
      ],
    });
    // libfoo.so.1 => /path/libfoo.so.1 (0x…)
    for (const [, library] of stdout.matchAll(/=> (\/\S+) \(/g)) {
      libraries.add(library);
    }
    libraries.add(command);
  }
  for (const library of libraries) {
    const name = basename(library);
    const loader = name.startsWith("ld-linux");
    const directory = loader ? "lib64" : "lib/x86_64-linux-gnu";
    archive.file(`${directory}/${name}`, Deno.readFileSync(library), 0o755);
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
