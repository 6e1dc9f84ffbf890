// SPDX-License-Identifier: Apache-2.0
#include "tools/instance/persons_word.hpp"

namespace wherry::tools {

using formats::ErrorCode;
using formats::fail;
using migrate::Assurance;
using migrate::Keep;

formats::Result<PersonsWord> persons_word_in(const api::ResolveRequest& request) {
    if (request.keep() != "source" && request.keep() != "destination") {
        return fail(ErrorCode::invalid_argument, "keep must be \"source\" or \"destination\"");
    }
    if (request.fenced() && request.no_arbiter()) {
        return fail(
            ErrorCode::invalid_argument,
            "fenced overrules what an arbiter says, and no_arbiter is for one that says nothing "
            "any more: not both");
    }
    PersonsWord word;
    word.keep = request.keep() == "source" ? Keep::source : Keep::destination;
    if (request.fenced()) {
        word.assurance = Assurance::destination_is_dead;
    } else if (request.no_arbiter()) {
        word.assurance = Assurance::arbiter_is_gone;
    }
    return word;
}

} // namespace wherry::tools
