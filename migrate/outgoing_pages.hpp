// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "dirtylog/dirty_set.hpp"
#include "migrate/channel_place.hpp"
#include "migrate/page_sender.hpp"
#include "transport/task_group.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace wherry::migrate {

/// The bulk channels of a source. Its members are called on the session's thread; the channels work
/// where `threads` says. A round is shared out among them as each of them gets on.
class OutgoingPages {
public:
    /// Opens a channel on the awaiting task's thread; called on each channel's at once.
    using Opener = std::function<transport::Task<std::unique_ptr<SessionChannel>>(
        ChannelRole role, std::uint32_t index)>;
    using OnFailure = std::function<void(const formats::Error&)>;

    /// `memory` and `limit` outlive it.
    OutgoingPages(
        const vmm::GuestMemory& memory,
        BandwidthLimit& limit,
        transport::Executor session,
        ChannelThreads threads);
    OutgoingPages(const OutgoingPages&) = delete;
    OutgoingPages& operator=(const OutgoingPages&) = delete;
    ~OutgoingPages();

    /// All at once; the first that cannot be opened is the error. `on_failure` hears, on the
    /// session's thread, of one that breaks while nobody sends.
    transport::Task<void> open(std::uint32_t count, Opener opener, OnFailure on_failure);
    /// One round, with the marker on every channel. `pages` stays as it is until this ends; then
    /// all channels rest.
    transport::Task<RoundTotals> send(RoundPlan round, const dirtylog::DirtySet& pages);
    /// The round under way, if there is one, ends with what its channels have in hand: a batch each
    /// at most. It ends in order, and what it has not sent is unsent().
    void break_off() { supply_.break_off(); }
    /// Of the round under way: what its channels have not taken yet.
    [[nodiscard]] formats::PageCount left() const { return supply_.left(); }
    /// Of the last round, once it has ended and while its `pages` are as they were.
    [[nodiscard]] dirtylog::DirtySet unsent() const { return supply_.unsent(); }
    /// Post-copy: what `order` hands out, until it is empty, and the marker of the last round.
    transport::Task<RoundTotals> push(RoundPlan round, PushOrder& order);
    /// The destination's word; for a channel that is not there `protocol`.
    formats::Status placed(const formats::proto::Placed& said);

    /// Ends all channels at once, without a farewell.
    void close();
    /// Once closed: waits until nothing runs any more.
    transport::Task<void> settle();

    /// Whether all channels are there: nothing is sent before.
    [[nodiscard]] bool is_open() const noexcept { return is_open_; }
    [[nodiscard]] std::uint32_t count() const noexcept {
        return static_cast<std::uint32_t>(lanes_.size());
    }
    [[nodiscard]] const PageCounters& counters() const noexcept { return counters_; }

private:
    struct Lane;
    transport::Task<void> open_lane(Lane& lane, std::uint32_t index, const Opener& opener);
    static transport::Task<void> listen(Lane& lane);
    transport::Task<RoundTotals> send_parts(RoundPlan round);
    static transport::Task<void> send_part(Lane& lane, RoundPlan round, RoundTotals& totals);

    const vmm::GuestMemory& memory_;
    BandwidthLimit& limit_;
    transport::Executor session_;
    ChannelThreads threads_;
    PageSupply supply_;
    PageCounters counters_;
    /// Shared with calls on their way to a channel's thread, which do nothing once it is gone.
    std::vector<std::shared_ptr<Lane>> lanes_;
    transport::TaskGroup helpers_; ///< listen and keep alive
    bool is_open_ = false;
    bool is_closed_ = false;
};

} // namespace wherry::migrate
