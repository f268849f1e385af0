// Elementary functions of our own, because those of libm differ between machines and versions: equal arguments give
// equal bits on every x86-64-v3 CPU. For finite arguments in the stated ranges; NaN gives NaN.
#pragma once

namespace expertscope {

float exp_f32(float x);    // relative error below 2e-7; 0 below -87.3, capped at exp(88.3)
double exp_f64(double x);  // relative error below 1e-15; |x| <= 700
double log_f64(double x);  // relative error below 1e-15; normal x > 0
void sincos_f64(double x, double& sine, double& cosine);  // absolute error below 1e-15; |x| <= 2e6

}  // namespace expertscope
