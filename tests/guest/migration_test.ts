/**
 * Live migration of a Linux guest, there and back.
 */

import { skipUnless } from "../support/skip.ts";
import { describeMove, Migration } from "./migration.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();

skipUnless(reason === null, reason ?? "").test(
  "Linux: a guest moves there and back while it writes disks and network",
  async () => {
    await using migration = await Migration.start();
    for (let i = 0; i < 2; i++) {
      console.log(describeMove(await migration.move()));
    }
    await migration.finish();
  },
);
