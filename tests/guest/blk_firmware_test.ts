import { assert, assertEquals } from "@std/assert";
import { crc32 } from "node:zlib";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { startVhostd } from "../support/vhostd.ts";
import { makeImage, readImage, vhostUserBlk } from "./disks.ts";
import {
  bootSector,
  BootSectorExit,
  bootSectorSum,
} from "./rig/boot_sector.ts";
import { runBootSector, startUBoot } from "./rig/firmware.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const SECTOR = 512;
const PLAN = { readLba: 1, writeLba: 1000, sectors: 64 };
const KINDS = [
  { name: "modern", options: ",disable-legacy=on" },
  { name: "transitional", options: "" },
  { name: "legacy", options: ",disable-modern=on" },
];

for (const { name, options } of KINDS) {
  guests.test(`SeaBIOS boots from a ${name} disk and writes it`, async () => {
    using directory = TemporaryDirectory.make("bios");
    const image = directory.file("disk.img");
    const socket = directory.file("blk.sock");
    const content = makeImage(image, 4 * MIB, MIB);
    const data = content.subarray(SECTOR, SECTOR + PLAN.sectors * SECTOR);
    using file = Deno.openSync(image, { write: true });
    file.writeSync(bootSector(PLAN));
    await using _server = await startVhostd({ image, socket });
    const result = await runBootSector({
      devices: vhostUserBlk(socket, `,bootindex=0${options}`),
    });
    const sum = bootSectorSum(data);
    assertEquals(result, {
      exitCode: BootSectorExit.ok,
      line: `S${sum} S${sum} OK`,
      sums: [sum, sum],
    });
    assertEquals(readImage(image, PLAN.writeLba * SECTOR, data.length), data);
  });

  guests.test(`U-Boot reads and writes a ${name} disk`, async () => {
    using directory = TemporaryDirectory.make("uboot");
    const image = directory.file("disk.img");
    const socket = directory.file("blk.sock");
    const content = makeImage(image, 16 * MIB, MIB);
    await using _server = await startVhostd({ image, socket });
    await using uboot = await startUBoot({
      devices: vhostUserBlk(socket, options),
    });
    const [info] = await uboot.scan();
    assert(info.includes("Capacity: 16.0 MB"), info);
    const [from, to] = [0x1000000, 0x2000000];
    const blocks = MIB / SECTOR;
    await uboot.read(from, 0, blocks);
    assertEquals(await uboot.crc32(from, MIB), crc32(content));
    await uboot.write(from, 2 * blocks, blocks);
    await uboot.read(to, 2 * blocks, blocks);
    assertEquals(await uboot.crc32(to, MIB), crc32(content));
    assertEquals(readImage(image, 2 * MIB, MIB), content);
  });
}
