// SPDX-License-Identifier: Apache-2.0
#include "tests/support/ownership_words.hpp"

#include <type_traits>
#include <variant>

#include <fmt/format.h>

namespace wherry::tests {

using namespace wherry::migrate;

namespace {

template <typename... Functions>
struct Overloaded : Functions... {
    using Functions::operator()...;
};
template <typename... Functions>
Overloaded(Functions...) -> Overloaded<Functions...>;

std::string with_epoch(std::string_view name, Epoch epoch) {
    return fmt::format("{}({})", name, static_cast<std::uint64_t>(epoch));
}

std::string_view name_of_timer(action::Timer timer) {
    return timer == action::Timer::wait ? "wait" : "retry";
}

} // namespace

std::string words_for(const OwnershipRecord& record) {
    return with_epoch(name_of(record.kind), record.epoch);
}
std::string words_for(const ArbiterRecord& record) {
    return with_epoch(name_of(record.kind), record.epoch);
}
std::string words_for(const std::optional<ArbiterRecord>& record) {
    return record ? words_for(*record) : "nothing";
}

std::string words_for(const OwnershipAction& action) {
    return std::visit(
        Overloaded{
            [](const action::Send& send) {
                return "send " + with_epoch(name_of(send.kind), send.epoch);
            },
            [](const action::WriteRecord& write) { return "write " + words_for(write.record); },
            [](const action::StartGuest& start) {
                return std::string{start.from_memory ? "resume" : "boot"};
            },
            [](const action::StopGuest&) { return std::string{"stop"}; },
            [](const action::DropMemory&) { return std::string{"drop"}; },
            [](const action::AskArbiter& ask) {
                if (!ask.wanted) {
                    return std::string{"read the arbiter"};
                }
                return fmt::format(
                    "ask for {}{}",
                    words_for(*ask.wanted),
                    ask.asker == Asker::fenced_source ? " fenced" : "");
            },
            [](const action::Connect&) { return std::string{"connect"}; },
            [](const action::Arm& arm) {
                return fmt::format(
                    "{} for {} ms",
                    name_of_timer(arm.timer),
                    std::chrono::duration_cast<std::chrono::milliseconds>(arm.after).count());
            },
            [](const action::Disarm& disarm) {
                return fmt::format("end the {}", name_of_timer(disarm.timer));
            }},
        action);
}

std::string words_for(const OwnershipActions& actions) {
    std::string words;
    for (const OwnershipAction& action : actions) {
        if (std::holds_alternative<action::Arm>(action) ||
            std::holds_alternative<action::Disarm>(action)) {
            continue;
        }
        words += (words.empty() ? "" : ", ") + words_for(action);
    }
    return words;
}

std::string words_for(const OwnershipEvent& event) {
    return std::visit(
        Overloaded{
            [](const event::GuestStopped&) { return std::string{"guest stopped"}; },
            [](const event::AllSent&) { return std::string{"all sent"}; },
            [](const event::Offered& offer) { return with_epoch("offer", offer.epoch); },
            [](const event::Loaded& loaded) { return with_epoch("loaded", loaded.epoch); },
            [](const event::LastPagePlaced&) { return std::string{"last page placed"}; },
            [](const event::Failed& failed) { return "failed: " + failed.reason; },
            [](const event::Cancelled&) { return std::string{"cancelled"}; },
            [](const event::Received& message) {
                return with_epoch(name_of(message.kind), message.epoch);
            },
            [](const event::Connected&) { return std::string{"connected"}; },
            [](const event::Disconnected& gone) { return "disconnected: " + gone.reason; },
            [](const event::RecordWritten&) { return std::string{"record written"}; },
            [](const event::RecordFailed& failed) { return "record failed: " + failed.reason; },
            [](const event::GuestStarted&) { return std::string{"guest started"}; },
            [](const event::GuestNotStarted&) { return std::string{"guest not started"}; },
            [](const event::ArbiterSays& says) {
                return "the arbiter says " + words_for(says.record);
            },
            [](const event::ArbiterUnreachable&) { return std::string{"arbiter unreachable"}; },
            [](const event::TimerExpired&) {
                return std::string{"timer expired"};
            }},
        event);
}

} // namespace wherry::tests
