import { assertEquals } from "@std/assert";
import { serve, type Server } from "../../host/serve.ts";
import { skipUnless } from "../support/skip.ts";
import { TemporaryDirectory } from "../support/temporary_directory.ts";
import { makeImage, readImage } from "./disks.ts";
import { FILE_BLOCK, isoImage } from "./iso.ts";
import {
  bootSector,
  BootSectorExit,
  bootSectorSum,
  cdBootProgram,
} from "./rig/boot_sector.ts";
import { runBootSector } from "./rig/firmware.ts";
import { prepareOrReason } from "./rig/prepare.ts";
import { vhostUserScsi } from "./scsi.ts";

const reason = await prepareOrReason();
const guests = skipUnless(reason === null, reason ?? "");

const MIB = 1 << 20;
const SECTOR = 512, CD_SECTOR = 2048;
const PLAN = { readLba: 1, writeLba: 1000, sectors: 64 };

const KINDS = ["disable-legacy=on", "disable-modern=on"];

function serveScsi(
  socket: string,
  options: Readonly<Record<string, unknown>>,
): Promise<Server> {
  return serve({
    device: new URL("../../backends/scsi/mod.ts", import.meta.url),
    options,
    socket,
    name: "scsi",
    logLevel: "warn",
    signals: false,
  });
}

for (const kind of KINDS) {
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
    await using _server = await serveScsi(socket, { path: image });
    const result = await runBootSector({
      devices: vhostUserScsi(socket, `,${kind}`),
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

for (const kind of KINDS) {
  guests.test(`SeaBIOS boots from a SCSI CD-ROM, ${kind}`, async () => {
    using directory = TemporaryDirectory.make("bios");
    const [empty, cd] = [directory.file("disk.img"), directory.file("cd.iso")];
    const socket = directory.file("scsi.sock");
    // A disk that cannot be booted from is in the way.
    makeImage(empty, 4 * MIB);
    const sectors = 8;
    const text = Array.from({ length: 3000 }, (_, i) => `line ${i}`).join("\n");
    const program = cdBootProgram({ readLba: FILE_BLOCK, sectors });
    const iso = isoImage("LINES.TXT", text, program);
    Deno.writeFileSync(cd, iso);
    await using _server = await serveScsi(socket, {
      luns: [{ path: empty }, { path: cd, type: "cdrom", target: 2 }],
    });
    const result = await runBootSector({
      devices: vhostUserScsi(socket, `,${kind}`),
    });
    const start = FILE_BLOCK * CD_SECTOR;
    const sum = bootSectorSum(iso.slice(start, start + sectors * CD_SECTOR));
    assertEquals(result, {
      exitCode: BootSectorExit.ok,
      line: `S${sum} OK`,
      sums: [sum],
    });
  });
}
