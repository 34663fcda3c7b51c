/**
 * What FreeBSD's tools print, as their sources have it, is what the scenarios
 * look for.
 */

import { assert, assertEquals } from "@std/assert";
import { freeBsd } from "./freebsd.ts";

/** `camcontrol` by its command, about the disk of the scenarios. */
const PRINTED: Readonly<Record<string, readonly string[]>> = {
  // getdevtree: "%-33s  at scbus%d target %d lun %jx ("
  devlist: [
    "<VHOSTD SCENARIO 1.0>              at scbus0 target 1 lun 0 (pass1,da1)\n",
  ],
  // scsi_print_inquiry, scsiserial, camxferrate
  inquiry: [
    "pass1: <VHOSTD SCENARIO 1.0> Fixed Direct Access SPC-5 SCSI device\n" +
    "pass1: Serial Number scenario-scsi\n" +
    "pass1: 300.000MB/s transfers, Command Queueing Enabled\n",
  ],
  modepage: [
    // modepage_write: "%s:  %u"
    "IC:  0\nABPF:  0\nCAP:  0\nDISC:  0\nSIZE:  0\nWCE:  1\nMF:  0\nRCD:  0\n",
    // modepage_dump: "%02x%c", eight to a line
    "04 00 ff ff 00 00 ff ff\nff ff 00 00 00 00 00 00\n00 00 \n",
  ],
  readcap: ["Last Block: 524287, Block Length: 512 bytes\n"],
  // tagcontrol: cam_path_string before each line
  tags: [
    "(pass1:vtscsi0:0:1:0): dev_openings  254\n" +
    "(pass1:vtscsi0:0:1:0): dev_active    0\n",
  ],
};

Deno.test("freebsd: camcontrol's words are those that are looked for", () => {
  const questions = freeBsd("scsi").scsi("/dev/da1");
  assertEquals(
    questions.map(({ command }) => command.split(" ")[1]),
    Object.keys(PRINTED),
  );
  for (const { command, answer } of questions) {
    for (const text of PRINTED[command.split(" ")[1]]) {
      assert(answer.test(text), `${command}: ${text}`);
    }
  }
});

Deno.test("freebsd: a disk without its write cache is told from one with it", () => {
  const { answer } = freeBsd("scsi").scsi("/dev/da1")
    .find(({ command }) => command.includes("modepage"))!;
  assert(!answer.test("IC:  0\nWCE:  0\nMF:  0\nRCD:  1\n"));
  assert(!answer.test("00 00 ff ff 00 00 ff ff\nff ff 00 00 00 00 00 00\n"));
});
