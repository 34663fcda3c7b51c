import { assertEquals } from "@std/assert";
import { serve } from "../../host/serve.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeImage, readImage } from "./disks.ts";
import {
  bootSector,
  BootSectorExit,
  bootSectorSum,
} from "./rig/boot_sector.ts";
import { runBootSector } from "./rig/firmware.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const SECTOR = 512;
const PLAN = { readLba: 1, writeLba: 1000, sectors: 64 };

for (const kind of ["disable-legacy=on", "disable-modern=on"]) {
  guests.test(`SeaBIOS boots from a SCSI disk, ${kind}`, async () => {
    using directory = TemporaryDirectory.make("bios");
    const image = directory.file("disk.img");
    const socket = directory.file("scsi.sock");
    const content = makeImage(image, 4 * MIB, MIB);
    const data = content.subarray(SECTOR, SECTOR + PLAN.sectors * SECTOR);
    {
      using file = Deno.openSync(image, { write: true });
      file.writeSync(bootSector(PLAN));
    }
    await using _server = await serve({
      device: new URL("../../backends/scsi/mod.ts", import.meta.url),
      options: { path: image },
      socket,
      name: "scsi",
      logLevel: "warn",
      signals: false,
    });
    const result = await runBootSector({
      devices: [
        "-chardev",
        `socket,id=scsi,path=${socket}`,
        "-device",
        `vhost-user-scsi-pci,chardev=scsi,${kind}`,
      ],
    });
    const sum = bootSectorSum(data);
    assertEquals(result, {
      exitCode: BootSectorExit.ok,
      line: `S${sum} S${sum} OK`,
      sums: [sum, sum],
    });
    assertEquals(readImage(image, PLAN.writeLba * SECTOR, data.length), data);
  });
}
