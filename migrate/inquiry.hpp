// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/destination_owner.hpp"
#include "migrate/ownership/keeper.hpp"
#include "migrate/reception.hpp"

#include <functional>
#include <memory>
#include <string>

namespace wherry::migrate {

/// Which hand-over a source asks about, in its own words.
struct Inquiry {
    ChannelName channel; ///< its epoch is the one before the offer's
    std::string vm_id;   ///< fit to be shown
    Attempt attempt;
    bool memory_is_lost = false; ///< the source has started again, without the guest's pages
};

/// The source's half, over a fresh connection: opens the channel and says which hand-over it is.
transport::Task<std::unique_ptr<SessionChannel>>
open_inquiry(std::unique_ptr<transport::ByteStream> stream, Inquiry about, Duration silence);

struct InquiryDeskOptions {
    /// Outlives the desk. Required.
    OwnershipKeeper* keeper = nullptr;
    /// What this side knows of that VM; an Error, with the reason, where it must not answer:
    /// another session has it in hand, or its journal belongs to another VM. Required.
    std::function<formats::Result<std::unique_ptr<DestinationOwner>>(
        const Inquiry& inquiry, const std::string& peer)>
        find_owner;
    /// Hears of each who got no answer. Empty: nobody does.
    std::function<void(const formats::Error&)> on_refusal{};
    /// For one inquiry; a source that needs longer comes again.
    Duration limit = std::chrono::minutes{1};
};

/// Answers sources that ask after their session, their process or this side's has gone: one after
/// the other, until the reception is closed. A task of its own, on the reception's thread.
transport::Task<void> answer_inquiries(Reception& reception, InquiryDeskOptions options);

} // namespace wherry::migrate
