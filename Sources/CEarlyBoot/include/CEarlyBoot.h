// SPDX-License-Identifier: GPL-3.0-or-later
// Linked for its load-time constructors and its replacements of popen, pclose, system and dm_*: nothing to call.
#pragma once
