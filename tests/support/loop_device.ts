/**
 * Loop devices: real block devices over files, where a test may make them.
 *
 * @module
 */

/** A loop device over a file, as long as it lives. */
export class LoopDevice implements Disposable {
  private constructor(readonly path: string) {}

  /**
   * Makes one, or tells why that is impossible here.
   *
   * @param blockSize its logical block size in bytes
   * @param options further options of losetup(8)
   */
  static make(
    file: string,
    blockSize: number,
    ...options: string[]
  ): LoopDevice | string {
    const size = ["--sector-size", `${blockSize}`];
    try {
      const { code, stdout, stderr } = new Deno.Command("losetup", {
        args: ["--find", "--show", ...size, ...options, file],
      }).outputSync();
      const text = new TextDecoder();
      return code === 0
        ? new LoopDevice(text.decode(stdout).trim())
        : text.decode(stderr).trim();
    } catch (error) {
      return String(error);
    }
  }

  [Symbol.dispose](): void {
    new Deno.Command("losetup", { args: ["-d", this.path] }).outputSync();
  }
}

/**
 * Does something with a loop device that can neither free nor zero ranges: over a
 * file of ramfs, which cannot either.
 *
 * @param directory an empty directory, to mount in
 * @returns why that is impossible here, or `null`
 */
export function withPlainDevice(
  directory: string,
  size: number,
  fn: (path: string) => void,
): string | null {
  const run = (command: string, ...args: string[]): boolean =>
    new Deno.Command(command, { args }).outputSync().success;
  if (!run("mount", "-t", "ramfs", "ramfs", directory)) {
    return "nothing can be mounted here";
  }
  try {
    const file = `${directory}/backing`;
    Deno.writeFileSync(file, new Uint8Array(size));
    const made = LoopDevice.make(file, 512);
    if (typeof made === "string") return `no loop devices here (${made})`;
    using device = made;
    fn(device.path);
    return null;
  } finally {
    run("umount", directory);
  }
}
