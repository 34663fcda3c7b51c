/**
 * A root file system for Linux guests that is a disk: an image with ext4 and
 * what the initial RAM disk has, but for the modules. A guest with `root=` on
 * its kernel's command line loads its drivers from the RAM disk, checks the file
 * system, and goes on from it.
 *
 * Theory of operation: the base archive is unpacked into a folder, from which
 * mkfs.ext4 makes the image; that takes no privileges and mounts nothing. The
 * image is cached; each guest writes to a copy. It is found by its label, since
 * the name of the disk depends on what serves it.
 *
 * @module
 */

import { basename, dirname, join } from "@std/path";
import { runCommand } from "../../support/process.ts";
import { cached } from "./cache.ts";
import {
  guestImage,
  type GuestImageOptions,
  ROOT_LABEL,
  TOOL_PACKAGES,
} from "./guest_image.ts";
import { findInSysroot, inSysroot, sysroot } from "./packages.ts";

/** Changes with the way images are made. */
const FORMAT = 1;

/** Bytes of the image, of which the tools take an eighth. */
const SIZE = 96 * 2 ** 20;

/** Words for a guest's kernel that has such a disk. */
export const ROOT_ARGUMENTS: string = `root=LABEL=${ROOT_LABEL}`;

/**
 * The image of a root file system, built now unless the cache has it. It is not
 * to be written to.
 *
 * @throws {RigError} as `guestImage`
 */
export async function linuxRoot(
  options: GuestImageOptions = {},
): Promise<string> {
  const { base } = await guestImage(options);
  const tools = await sysroot(TOOL_PACKAGES, options);
  const entry = await cached({
    name: "root",
    inputs: [FORMAT, SIZE, ROOT_LABEL, basename(dirname(base))],
    build: async (into) => {
      options.progress?.("making the Linux guest's root file system");
      const tree = join(into, "tree");
      Deno.mkdirSync(tree);
      const image = join(into, "root.img");
      await runCommand(findInSysroot(tools, "busybox"), {
        args: ["cpio", "-idm", "-F", base],
        cwd: tree,
      });
      Deno.removeSync(join(tree, "modules"), { recursive: true });
      Deno.createSync(image).close();
      Deno.truncateSync(image, SIZE);
      const { command, args } = inSysroot(tools, "mkfs.ext4");
      await runCommand(command, {
        args: [
          ...args,
          ...["-q", "-F", "-L", ROOT_LABEL, "-E", "root_owner=0:0"],
          ...["-d", tree, image],
        ],
        env: { MKE2FS_CONFIG: join(tools, "etc/mke2fs.conf") },
      });
      Deno.removeSync(tree, { recursive: true });
    },
  }, options);
  return join(entry, "root.img");
}

/**
 * What is wrong with an image that a guest has left: all that e2fsck finds, or
 * that it was not unmounted. `null` when nothing is.
 */
export async function checkLinuxRoot(image: string): Promise<string | null> {
  const tools = await sysroot(TOOL_PACKAGES);
  const { command, args } = inSysroot(tools, "e2fsck");
  const { code, stdout, stderr } = await runCommand(command, {
    args: [...args, "-f", "-n", image],
    anyCode: true,
  });
  const said = stdout + stderr;
  // With -n the journal stays as it is, and what is in it is not looked at.
  return code === 0 && !said.includes("journal recovery") ? null : said;
}
