// A stand-in for CUPTI's library, for tests on machines without a GPU: it keeps CUPTI's rules (one subscriber, external
// ids only on records of API calls that are switched on, buffers asked for and handed back through callbacks) and makes
// up the device. The functions below are what a test steers it with; they are looked up in the library by name.
#pragma once

#include <cstdint>

extern "C" {

// Back to the start, as if the library had just been loaded; what a process may do once may be done again.
void fake_cupti_reset();
void fake_cupti_refuse_subscribers(int result);  // a CUptiResult, 0: accept one
void fake_cupti_keep_time_badly(bool);           // its clock ignores a registered callback
void fake_cupti_hold_back_calls(bool);           // records of API calls come with the next delivery but one
std::uint32_t fake_cupti_timestamp_registrations();
std::uint32_t fake_cupti_calls_switched_on();

// As the driver does: a call in the thread's own name, then work on the device. Times are what the device's records
// will say, in CUPTI's clock; returns the call's correlation.
std::uint32_t fake_cupti_launch(const char* mangled_name, std::uint64_t start_ns, std::uint64_t end_ns);
std::uint32_t fake_cupti_copy_to_device(std::uint64_t bytes, std::uint64_t start_ns, std::uint64_t end_ns);
// Records a kernel node into a graph under the tag in force; returns the node of the executable graph.
std::uint64_t fake_cupti_capture_node();
std::uint32_t fake_cupti_launch_graph(const std::uint64_t* nodes, std::uint32_t count, const char* mangled_name,
                                      std::uint64_t start_ns);
}
