"""Temperature: who sets it, and what it does."""

from contrastive.temperature.details import Details as Details
from contrastive.temperature.details import examine as examine
from contrastive.temperature.details import summarize_details as summarize_details
from contrastive.temperature.diagnostics import Diagnostics as Diagnostics
from contrastive.temperature.diagnostics import diagnose as diagnose
from contrastive.temperature.diagnostics import summarize as summarize
from contrastive.temperature.policies import DEFAULT_TEMPERATURE as DEFAULT_TEMPERATURE
from contrastive.temperature.policies import Fixed as Fixed
from contrastive.temperature.policies import Individual as Individual
from contrastive.temperature.policies import Learned as Learned
from contrastive.temperature.policies import Policy as Policy
from contrastive.temperature.schedules import Linear as Linear
from contrastive.temperature.schedules import Oscillating as Oscillating
from contrastive.temperature.schedules import WarmDown as WarmDown
from contrastive.temperature.slopes import slopes as slopes
from contrastive.temperature.theory import entropy as entropy
from contrastive.temperature.theory import entropy_slope as entropy_slope
from contrastive.temperature.theory import gradient as gradient
from contrastive.temperature.theory import partition_bias as partition_bias
from contrastive.temperature.theory import penalty as penalty
