/**
 * Memory that is plugged into a Linux guest and unplugged, while its disk works.
 */

import { skipUnless } from "../support/skip.ts";
import { plugAndUnplug } from "./dimms.ts";
import { prepareOrReason } from "./rig/prepare.ts";

const reason = await prepareOrReason();

skipUnless(reason === null, reason ?? "").test(
  "Linux: 32 DIMMs and one of 16 GiB come and go under I/O",
  () => plugAndUnplug(32),
);
