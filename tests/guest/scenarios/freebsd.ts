/**
 * How FreeBSD says things. Everything here works with the tools of /rescue, as
 * far as there are such tools.
 *
 * @module
 */

import {
  complaints,
  countVirtio,
  parseDevlist,
  parseDiskinfo,
  parseDisks,
  parseSysctl,
  rootIsOn,
  virtioDrivers,
} from "../rig/freebsd_output.ts";
import { ufsState } from "../rig/freebsd_disk.ts";
import { PRODUCT } from "./bench.ts";
import type { DeviceKind, Guest, System } from "./guest.ts";

const KINDS: Readonly<Record<string, DeviceKind>> = {
  vtnet: "net",
  vtblk: "blk",
  vtscsi: "scsi",
  vtballoon: "balloon",
};

/** `/dev/vtbd1` as GEOM and CAM name it. */
function name(disk: string): string {
  return disk.replace("/dev/", "");
}

/** The number of a disk of the scenarios, behind the root disk. */
function unit(rootOn: "blk" | "scsi" | null, role: "blk" | "scsi"): number {
  return rootOn === role ? 1 : 0;
}

async function scsiDisk(
  guest: Guest,
  rootOn: "blk" | "scsi" | null,
): Promise<string> {
  if (!await guest.has("camcontrol")) return `/dev/da${unit(rootOn, "scsi")}`;
  // A bus is scanned in the background.
  await guest.until(
    `camcontrol devlist | while read -r l; do case "$l" in *${PRODUCT}*da*) ` +
      "echo found;; esac; done | read -r l",
    60,
  );
  const found = parseDevlist(await guest.check("camcontrol devlist"))
    .find(({ identity }) => identity.includes(PRODUCT))
    ?.peripherals.find((peripheral) => /^da\d+$/.test(peripheral));
  if (found === undefined) throw new Error(`FreeBSD has no da(4) "${PRODUCT}"`);
  return `/dev/${found}`;
}

/**
 * FreeBSD's words.
 *
 * @param rootOn what serves the root disk: the disks behind it count from 1
 */
export function freeBsd(rootOn: "blk" | "scsi" | null): System {
  return {
    name: "FreeBSD",
    tools: {
      "features": ["sysctl", "dmesg"],
      "checksum": ["md5", "dd", "cp", "rm"],
      "bus": ["pciconf"],
      "file system": ["newfs", "fsck_ffs", "mount", "umount", "dd", "cp"],
      "disk facts": ["diskinfo"],
      "scsi": ["camcontrol"],
      "trim": ["newfs", "dd", "sync"],
      "partition": ["gpart", "dd"],
      "interface": ["ifconfig"],
      "vlan": ["ifconfig"],
      "ping": ["ping"],
      "tcp": ["nc", "dd", "rm"],
      "offloads": ["ifconfig"],
      "reboot": ["reboot"],
      "root": ["mkdir", "df", "md5", "dd", "reboot"],
    },
    async attached(guest) {
      // A driver that took nothing has no name there.
      const { output } = await guest.run(
        "for d in vtblk vtnet vtscsi vtballoon virtio_pci; do " +
          "sysctl dev.$d 2>/dev/null; done; true",
      );
      const { output: messages } = await guest.run("dmesg 2>/dev/null; true");
      return virtioDrivers(parseSysctl(output), messages).map((driver) => {
        if (driver.negotiated === null) {
          throw new Error(
            `FreeBSD does not tell the features of ${driver.name}: until ` +
              "12 it needs boot_verbose=YES",
          );
        }
        return {
          kind: KINDS[driver.name.replace(/\d+$/, "")],
          name: driver.name,
          features: driver.negotiated,
          offered: driver.offered,
          legacy: /\((?:legacy|modern)\)/.test(driver.description)
            ? driver.description.includes("(legacy)")
            : null,
        };
      });
    },
    async complaints(guest) {
      return complaints((await guest.run("dmesg 2>/dev/null; true")).output);
    },
    async busCount(guest) {
      return countVirtio(await guest.check("pciconf -lv"));
    },
    digest: "md5 -q",
    disk(guest, role) {
      return role === "scsi"
        ? scsiDisk(guest, rootOn)
        : Promise.resolve(`/dev/vtbd${unit(rootOn, "blk")}`);
    },
    async rootIsServed(guest) {
      if (!await guest.has("mount")) return null;
      return rootIsOn(
        await guest.check("mount"),
        rootOn === "scsi" ? "da0" : "vtbd0",
      );
    },
    rootState: (image) => Promise.resolve({ state: ufsState(image) }),
    async diskSize(guest, disk) {
      const disks = parseDisks(
        await guest.check("sysctl -n kern.geom.conftxt"),
      );
      const size = disks.get(name(disk));
      if (size === undefined) throw new Error(`GEOM has no "${disk}"`);
      return size;
    },
    // The next command brings the unit attention that says so.
    look: (disk) =>
      disk.startsWith("/dev/da")
        ? `dd if=${disk} of=/dev/null bs=512 count=1 2>/dev/null; ` +
          `camcontrol reprobe ${name(disk)} 2>/dev/null; true`
        : "true",
    async diskFacts(guest, disk) {
      const facts = parseDiskinfo(await guest.check(`diskinfo -v ${disk}`));
      return {
        size: Number(facts.get("mediasize in bytes")),
        sectorSize: Number(facts.get("sectorsize")),
        serial: facts.get("Disk ident") ?? null,
        // Before 12 diskinfo says nothing of it.
        trim: (facts.get("TRIM/UNMAP support") ?? "Yes") === "Yes",
      };
    },
    scsi: (disk) => [
      { command: "camcontrol devlist", answer: new RegExp(PRODUCT) },
      {
        command: `camcontrol inquiry ${name(disk)}`,
        answer: /SCENARIO[^]*Serial Number scenario-scsi/,
      },
      {
        command: `camcontrol modepage ${name(disk)} -m 8`,
        // Without /usr/share/misc/scsi_modes there are no names, but the page's
        // bytes behind its header; WCE is bit 2 of the first.
        answer: /\bWCE: +1\b|^[0-9a-f][4-7c-f](?: [0-9a-f]{2}){7}\b/,
      },
      {
        command: `camcontrol readcap ${name(disk)}`,
        answer: /Block Length: 512/,
      },
      {
        command: `camcontrol tags ${name(disk)} -v`,
        answer: /dev_openings\s+[1-9]/,
      },
    ],
    // Disks are character devices, which nothing caches.
    direct: ["", ""],
    makeFileSystem: (disk) => `newfs -U -t ${disk} > /dev/null`,
    checkFileSystem: (disk) => `fsck_ffs -f -n ${disk} > /dev/null`,
    mount: (disk, directory) => `mount ${disk} ${directory}`,
    trimDisk: (_guest, disk) => Promise.resolve(`newfs -E ${disk} > /dev/null`),
    // A file system with -t gives blocks back as they become free.
    trimFiles: () => "sync",
    async partition(guest, disk) {
      await guest.check(
        `gpart destroy -F ${name(disk)} > /dev/null 2>&1; ` +
          `dd if=/dev/zero of=${disk} bs=65536 count=16 2>/dev/null; ` +
          `gpart create -s gpt ${name(disk)} && ` +
          `gpart add -t freebsd-ufs ${name(disk)} && gpart show ${name(disk)}`,
      );
      return `${disk}p1`;
    },
    unpartition: (disk) => `gpart destroy -F ${name(disk)}`,
    net: "vtnet0",
    address: (device, address) =>
      `ifconfig ${device} inet ${address} netmask 255.255.255.0 up`,
    link: (state) => `ifconfig vtnet0 ${state}`,
    mtu: (mtu) => `ifconfig vtnet0 mtu ${mtu}`,
    vlan: (id) => ({
      name: `vlan${id}`,
      command: `ifconfig vlan${id} create && ` +
        `ifconfig vlan${id} vlan ${id} vlandev vtnet0`,
    }),
    removeVlan: (id) => `ifconfig vlan${id} destroy`,
    ping: (host, size) => `ping -n -c 2 -t 30 -s ${size} ${host}`,
    send: (host, port, file) => `nc -n -N ${host} ${port} < ${file}`,
    receive: (port, file) => `nc -n -d -l ${port} > ${file}`,
    offloads: (on) =>
      on
        ? ["rxcsum rxcsum6", "lro", "txcsum txcsum6", "tso"]
          .map((words) => `ifconfig vtnet0 ${words}`)
        : ["-tso", "-txcsum -txcsum6", "-lro", "-rxcsum -rxcsum6"]
          .map((words) => `ifconfig vtnet0 ${words}`),
    async balloonPages(guest) {
      if (!await guest.has("sysctl")) return null;
      const printed = await guest.check("sysctl -n dev.vtballoon.0.current");
      return Number(/^\d+$/m.exec(printed)?.[0] ?? NaN);
    },
  };
}
