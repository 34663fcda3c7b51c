/**
 * What FreeBSD's tools and kernel print, as data.
 *
 * Sources: `virtio_describe` and `vtpci_setup_sysctl` of `sys/dev/virtio`,
 * `g_conf_cat_sbuf` (`kern.geom.conftxt`), `usr.sbin/diskinfo`,
 * `sbin/camcontrol`, `usr.sbin/pciconf`.
 *
 * @module
 */

/** The lines `name: value` of sysctl(8). */
export function parseSysctl(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const found = /^([\w.%-]+): ?(.*)$/.exec(line);
    if (found !== null) values.set(found[1], found[2]);
  }
  return values;
}

/** The bits of `0x10002e54 <RingIndirectDesc,…>`; `null` for anything else. */
export function parseFeatures(text: string | undefined): bigint | null {
  const found = /^\s*(0x[0-9a-f]+|0)\b/.exec(text ?? "");
  return found === null ? null : BigInt(found[1]);
}

/** A driver of a virtio device. */
export interface VirtioDriver {
  /** `vtblk0`. */
  readonly name: string;
  /** `virtio_pci1`, or another bus. */
  readonly parent: string;
  /** Its bus's description. */
  readonly description: string;
  readonly offered: bigint | null;
  readonly negotiated: bigint | null;
}

/**
 * The virtio drivers of a tree of sysctl(8): `dev`, or those below it that
 * matter, `dev.virtio_pci` among them. Until FreeBSD 12 features are in the
 * messages of a verbose boot alone.
 *
 * @param messages the kernel's messages
 */
export function virtioDrivers(
  tree: ReadonlyMap<string, string>,
  messages: string,
): VirtioDriver[] {
  const drivers: VirtioDriver[] = [];
  for (const [name, parent] of tree) {
    const found = /^dev\.(vtblk|vtnet|vtscsi|vtballoon)\.(\d+)\.%parent$/
      .exec(name);
    if (found === null) continue;
    const bus = `dev.${parent.replace(/(\d+)$/, ".$1")}`;
    drivers.push({
      name: found[1] + found[2],
      parent,
      description: tree.get(`${bus}.%desc`) ?? "",
      offered: parseFeatures(tree.get(`${bus}.host_features`)) ??
        fromMessages(messages, parent, "host"),
      negotiated: parseFeatures(tree.get(`${bus}.negotiated_features`)) ??
        fromMessages(messages, parent, "negotiated"),
    });
  }
  return drivers;
}

/** The last line about it: that of the present boot. */
function fromMessages(
  messages: string,
  device: string,
  which: "host" | "negotiated",
): bigint | null {
  const lines = messages.matchAll(
    new RegExp(`^${device}: ${which} features: (.*)$`, "gm"),
  );
  return parseFeatures([...lines].at(-1)?.[1]);
}

/** Words of drivers that could not do what they should. */
const COMPLAINT =
  /cannot |can't |failed|error|not accepted|timed? ?out|hard error|bogus|invalid/i;

/**
 * Lines of the kernel in which a virtio driver, a disk or its bus complains.
 * The kernel keeps messages over a reboot: those before the last banner are
 * another boot's.
 */
export function complaints(messages: string): string[] {
  const boots = messages.split(
    /Copyright \(c\) 1992-\d+ The FreeBSD Project\./,
  );
  return (boots.at(-1) ?? "").split("\n").filter((line) =>
    /^(?:\(?(?:vtblk|vtnet|vtscsi|vtballoon|vtbd|virtio_pci|da|pass)\d+[:a-z]|g_vfs_done)/
      .test(line) && COMPLAINT.test(line)
  );
}

/**
 * Whether the root file system is on a disk, by what mount(8) prints; `null`
 * where it has a label, or is a dataset.
 *
 * @param disk `vtbd0`
 */
export function rootIsOn(mounts: string, disk: string): boolean | null {
  const [, source] = /^(\S+) on \/ \(/m.exec(mounts) ?? [];
  const [, device] = /^\/dev\/((?:vtbd|da|md|cd|ada|nda)\d+)(?:[ps]\d.*)?$/
    .exec(source ?? "") ?? [];
  return device === undefined ? null : device === disk;
}

/** Sizes in bytes of the disks in `kern.geom.conftxt`, by name. */
export function parseDisks(conftxt: string): Map<string, number> {
  const disks = new Map<string, number>();
  for (
    const [, name, size] of conftxt.matchAll(/^\d+ DISK (\S+) (\d+) \d+/gm)
  ) {
    disks.set(name, Number(size));
  }
  return disks;
}

/** A line of `camcontrol devlist`. */
export interface CamDevice {
  /** Vendor, product and revision. */
  readonly identity: string;
  /** Peripherals: `pass1`, `da1`. */
  readonly peripherals: readonly string[];
}

/** `<VHOSTD  DISK 1.0>  at scbus2 target 1 lun 0 (pass1,da1)`, by line. */
export function parseDevlist(text: string): CamDevice[] {
  return [...text.matchAll(/^<([^>]*)>\s+at scbus\d+ .*\(([\w,]+)\)\s*$/gm)]
    .map(([, identity, list]) => ({ identity, peripherals: list.split(",") }));
}

/** What `diskinfo -v` says, by the words behind `#`. */
export function parseDiskinfo(text: string): Map<string, string> {
  return new Map(
    [...text.matchAll(/^\t(.*?)\s*\t# (.+?)\.?$/gm)]
      .map(([, value, name]) => [name.replace(/ \(.*\)$/, ""), value]),
  );
}

/** How many functions with virtio's vendor `pciconf -l` lists. */
export function countVirtio(pciconf: string): number {
  // Until FreeBSD 13 one number holds device and vendor.
  const virtio = /^\S+@pci\S+:\s.*(?:\bvendor=0x1af4|chip=0x[0-9a-f]{4}1af4)/gm;
  return [...pciconf.matchAll(virtio)].length;
}
