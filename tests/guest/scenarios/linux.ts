/**
 * A Linux guest for scenarios, and how Linux says things.
 *
 * @module
 */

import { startLinuxGuest } from "../rig/linux_guest.ts";
import { LINUX_TROUBLE } from "../rig/kernel_trouble.ts";
import { checkLinuxRoot, ROOT_ARGUMENTS } from "../rig/linux_root.ts";
import { PRODUCT, SERIALS } from "./bench.ts";
import { ConsoleGuest } from "./console_guest.ts";
import type { AttachedDevice, DeviceKind, System } from "./guest.ts";

const KINDS: Readonly<Record<string, DeviceKind>> = {
  "0x0001": "net",
  "0x0002": "blk",
  "0x0005": "balloon",
  "0x0008": "scsi",
};

/** The bits of a `features` file of sysfs, lowest first. */
function featuresOf(digits: string): bigint {
  return BigInt("0b" + [...digits].reverse().join(""));
}

/** `/dev/vda` as sysfs names it. */
function name(disk: string): string {
  return disk.replace("/dev/", "");
}

/** How Linux says things. */
export const LINUX: System = {
  name: "Linux",
  tools: {
    "features": [],
    "checksum": ["md5sum"],
    "bus": [],
    "file system": ["mkfs.ext4", "e2fsck"],
    "disk facts": [],
    "scsi": ["sg_inq", "sg_vpd", "sg_modes", "sg_readcap"],
    "trim": ["blkdiscard", "fstrim"],
    "partition": ["fdisk", "mkfs.ext4"],
    "interface": ["ip"],
    "vlan": ["ip"],
    "ping": ["ping"],
    "tcp": ["nc", "md5sum"],
    "offloads": ["ethtool"],
    "reboot": ["reboot"],
    "root": ["mkdir", "md5sum", "reboot"],
  },
  async attached(guest) {
    const lines = await guest.check(
      "for d in /sys/bus/virtio/devices/*; do echo $(basename $d) " +
        "$(cat $d/device) $([ -e $d/driver ] && echo bound) " +
        "$(cat $d/features); done",
    );
    return lines.split("\n").flatMap((line): AttachedDevice[] => {
      const [device, id, bound, digits] = line.split(" ");
      if (bound !== "bound" || KINDS[id] === undefined) return [];
      const features = featuresOf(digits);
      return [{
        kind: KINDS[id],
        name: device,
        features,
        offered: null,
        legacy: (features & 1n << 32n) === 0n,
      }];
    });
  },
  async complaints(guest) {
    const lines = await guest.check(
      "dmesg | grep -iE 'virtio.*(fail|error)|I/O error' || true",
    );
    return lines.split("\n").filter((line) => line !== "");
  },
  async busCount(guest) {
    return Number(
      await guest.check("cat /sys/bus/pci/devices/*/vendor | grep -c 0x1af4"),
    );
  },
  digest: "md5sum",
  async disk(guest, role) {
    const [file, value] = role === "blk"
      ? ["serial", SERIALS.blk]
      : ["device/model", PRODUCT];
    const found = await guest.check(
      `for d in /sys/block/[vs]d*; do grep -q '^${value} *$' $d/${file} ` +
        `2>/dev/null && echo /dev/$(basename $d); done; true`,
    );
    if (!/^\/dev\/\w+$/.test(found)) {
      throw new Error(`Linux has no disk for "${role}": "${found}"`);
    }
    return found;
  },
  async rootIsServed(guest) {
    const disk = await guest.check(
      "while read -r d m t x; do [ $m = / ] && [ $t = ext4 ] && echo $d; done " +
        "< /proc/mounts; true",
    );
    if (!/^\/dev\/[vs]d[a-z]$/.test(disk)) return false;
    const said = disk.startsWith("/dev/vd")
      ? await guest.check(`cat /sys/block/${name(disk)}/serial`)
      : await guest.check(`sg_vpd -p 0x80 ${disk}`);
    return said.includes(SERIALS.root);
  },
  async rootState(image) {
    const why = await checkLinuxRoot(image);
    return why === null ? { state: "clean" } : { state: "damaged", why };
  },
  async diskSize(guest, disk) {
    return 512 * Number(await guest.check(`cat /sys/block/${name(disk)}/size`));
  },
  look: () => "true",
  async diskFacts(guest, disk) {
    const read = (file: string) =>
      guest.check(`cat /sys/block/${name(disk)}/${file} 2>/dev/null || true`);
    const serial = disk.startsWith("/dev/vd")
      ? await read("serial")
      : /Unit serial number: (\S+)/.exec(
        await guest.check(`sg_vpd -p 0x80 ${disk}`),
      )?.[1] ?? null;
    return {
      size: 512 * Number(await read("size")),
      sectorSize: Number(await read("queue/logical_block_size")),
      serial,
      trim: Number(await read("queue/discard_max_bytes")) > 0,
    };
  },
  scsi: (disk) => [
    { command: `sg_inq ${disk}`, answer: /Product identification: SCENARIO/ },
    { command: `sg_vpd -p 0x80 ${disk}`, answer: /scenario-scsi/ },
    { command: `sg_modes --page=8 ${disk}`, answer: /Caching/ },
    { command: `sg_readcap ${disk}`, answer: /Logical block length=512/ },
    {
      command: `cat /sys/block/${name(disk)}/device/queue_depth`,
      answer: /^[1-9]/,
    },
  ],
  direct: ["iflag=direct", "oflag=direct"],
  makeFileSystem: (disk) => `mkfs.ext4 -q -F ${disk}`,
  checkFileSystem: (disk) => `e2fsck -fn ${disk}`,
  mount: (disk, directory) => `mount ${disk} ${directory}`,
  trimDisk: (_guest, disk) => Promise.resolve(`blkdiscard -f ${disk}`),
  trimFiles: (directory) => `sync; fstrim ${directory}`,
  async partition(guest, disk) {
    await guest.check(
      `printf 'o\\nn\\np\\n1\\n\\n\\nw\\n' | fdisk ${disk} > /dev/null`,
    );
    await guest.until(`[ -b ${disk}1 ]`, 10);
    return `${disk}1`;
  },
  unpartition: (disk) =>
    `dd if=/dev/zero of=${disk} bs=1M count=1 conv=fsync 2>/dev/null && ` +
    `blockdev --rereadpt ${disk}`,
  net: "eth0",
  address: (device, address) =>
    `ip addr add ${address}/24 dev ${device} 2>/dev/null; ` +
    `ip link set ${device} up`,
  link: (state) => `ip link set eth0 ${state}`,
  mtu: (mtu) => `ip link set eth0 mtu ${mtu}`,
  vlan: (id) => ({
    name: `eth0.${id}`,
    command: `ip link add link eth0 name eth0.${id} type vlan id ${id}`,
  }),
  removeVlan: (id) => `ip link del eth0.${id}`,
  ping: (host, size) => `ping -c 2 -W 5 -s ${size} ${host}`,
  send: (host, port, file) => `nc ${host} ${port} < ${file}`,
  // Its own input never ends: an end would be sent, and the sender leave.
  receive: (port, file) =>
    `mkfifo /tmp/silent 2>/dev/null; nc -l -p ${port} <> /tmp/silent > ${file}`,
  offloads: (on) => {
    const state = on ? "on" : "off";
    const each = ["tso", "tx", "gro", "sg"].map((feature) =>
      `ethtool -K eth0 ${feature} ${state}`
    );
    return on ? each.reverse() : each;
  },
  balloonPages: () => Promise.resolve(null),
};

/** How a Linux guest is started. */
export interface LinuxScenarioGuest {
  readonly devices: readonly string[];
  /** Memory in MiB. */
  readonly memory: number;
  /** Its root file system is a disk among the devices, not the RAM disk. */
  readonly root?: boolean;
}

/** Boots a Linux guest. */
export async function startLinux(
  { root = false, ...machine }: LinuxScenarioGuest,
): Promise<ConsoleGuest> {
  const linux = await startLinuxGuest({
    ...machine,
    append: root ? ROOT_ARGUMENTS : "",
    reboot: true,
  });
  const leave = root ? "mount -o remount,ro / && " : "";
  const guest = new ConsoleGuest(linux.qemu, {
    system: LINUX,
    dialogue: { timeout: 60_000, quiet: 2_000, answer: 5_000 },
    setup: [],
    timeout: 60_000,
    room: "echo ROOM /tmp /mnt",
    stop: (_kind, how) =>
      leave + (how === "reboot" ? "reboot -f" : "poweroff -f"),
    banner: /^@@BOOT .*\n/m,
    trouble: LINUX_TROUBLE,
    lastWords: 1_000,
  }, () => void linux[Symbol.asyncDispose]());
  try {
    await linux.qemu.console.sendLine(); // its prompt has been read already
    await guest.boot();
    return guest;
  } catch (error) {
    await linux[Symbol.asyncDispose]();
    throw error;
  }
}
