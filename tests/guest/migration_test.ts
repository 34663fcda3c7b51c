/**
 * Live migration of a Linux guest: cancelled, there and back, and with packed rings.
 */

import { skipUnless } from "../support/skip.ts";
import { describeMove, Migration, PACKED } from "./migration.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();

const guests = skipUnless(reason === null, reason ?? "");

guests.test(
  "Linux: a guest stays, moves there and back while it writes disks and network",
  async () => {
    await using migration = await Migration.start();
    await migration.cancel();
    for (let i = 0; i < 2; i++) {
      console.log(describeMove(await migration.move()));
    }
    await migration.finish();
  },
);

guests.test(
  "Linux: a guest on packed rings moves while it writes disks and network",
  async () => {
    await using migration = await Migration.start(PACKED);
    console.log(describeMove(await migration.move()));
    await migration.finish();
  },
);
