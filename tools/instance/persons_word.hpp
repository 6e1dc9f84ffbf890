// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/proto/api.pb.h"
#include "formats/result.hpp"
#include "migrate/custody.hpp"
#include "migrate/ownership/owner.hpp"

namespace wherry::tools {

/// What `wherry resolve` says of a VM in doubt.
struct PersonsWord {
    migrate::Keep keep{};
    migrate::Assurance assurance{};
};
/// Error{invalid_argument} for what says nothing, or two things at once.
formats::Result<PersonsWord> persons_word_in(const api::ResolveRequest& request);

} // namespace wherry::tools
