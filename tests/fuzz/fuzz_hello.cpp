// SPDX-License-Identifier: Apache-2.0
#include "formats/proto/control.pb.h"
#include "fuzz_target.hpp"
#include "migrate/channel_name.hpp"

#include <algorithm>
#include <string>

using namespace wherry;
using formats::invariant;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string bytes(size, '\0');
    std::ranges::copy_n(data, static_cast<std::ptrdiff_t>(size), bytes.begin());
    formats::proto::Hello said;
    if (!said.ParseFromString(bytes)) {
        return 0;
    }
    const auto hello = migrate::from_proto(said);
    if (!hello) {
        return 0;
    }
    const auto& name = hello->name;
    invariant(name.migration_id.size() <= migrate::migration_id_limit, "an id is within its limit");
    invariant(name.index < migrate::channels_limit, "so is the number of a channel");
    invariant(name_of(name.role) != "unknown", "a role is one that is known");
    formats::proto::Hello again;
    to_proto(name, hello->side, hello->patience, again);
    invariant(
        again.migration_id() == said.migration_id() && again.role() == said.role() &&
            again.index() == said.index() && again.epoch() == said.epoch() &&
            again.ticket() == said.ticket() && again.silence_ms() == said.silence_ms(),
        "what was accepted is said again as it was");
    return 0;
}
